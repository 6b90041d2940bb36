/**
 * One request to a receiver, and what became of it. It never throws but when it is aborted: every failure is an outcome.
 *
 * Redirects are failures: where they lead nobody has allowed. Of an answer no more than 2 KiB is read.
 */
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import { systemClock, throwIfAborted, type Clock } from "@berth/base";
import { RefusedAddress, type AddressGuard } from "./address-guard.ts";
import type { Message } from "./cloud-event.ts";
import { signedHeaders } from "./signature.ts";

export interface Sending {
  readonly url: string;
  readonly headers: readonly { readonly name: string; readonly value: string }[];
  readonly timeoutMs: number;
  /** The newest first. */
  readonly secrets: readonly string[];
  readonly id: string;
  readonly message: Message;
}

export interface SendResult {
  readonly outcome: "Delivered" | "Failed" | "Refused" | "Gone";
  /** 0: there was no answer. */
  readonly code: number;
  readonly message: string;
  readonly body: string;
  readonly retryAfterMs?: number;
  readonly tookMs: number;
}

export interface Sender extends Disposable {
  /** @throws CANCELLED when the signal fires */
  send(sending: Sending, signal: AbortSignal): Promise<SendResult>;
}

export interface SenderDeps {
  readonly guard: AddressGuard;
  readonly clock?: Clock;
  readonly version: string;
}

const MOST_BODY = 2_048;
/** A receiver that names a day it will be back is believed no longer than this. */
const MOST_RETRY_AFTER_MS = 3_600_000;

export function makeSender({ guard, clock = systemClock, version }: SenderDeps): Sender {
  const options = { keepAlive: true, keepAliveMsecs: 15_000, timeout: 60_000, lookup: guard.lookup };
  const [http, https] = [new HttpAgent(options), new HttpsAgent(options)];

  const call = (sending: Sending, signal: AbortSignal): Promise<Answer> => {
    const url = new URL(sending.url);
    const host = url.hostname.replace(/^\[|\]$/g, "");
    // A connection to an address asks for no look-up.
    const refusal = isIP(host) === 0 ? undefined : guard.refusal(host);
    if (refusal !== undefined) return Promise.reject(new RefusedAddress(`${host} ${refusal}`));
    const { body, contentType } = sending.message;
    const own = Object.fromEntries(sending.headers.map(({ name, value }) => [name, value]));
    const atSeconds = Math.floor(clock.nowMs() / 1_000);
    const headers = {
      ...own,
      "user-agent": `berth/${version}`,
      "content-type": contentType,
      "content-length": Buffer.byteLength(body),
      ...signedHeaders(sending.secrets, { id: sending.id, atSeconds, body }),
    };
    const made =
      url.protocol === "https:"
        ? httpsRequest(url, { method: "POST", headers, agent: https, signal })
        : httpRequest(url, { method: "POST", headers, agent: http, signal });
    return exchange(made, body);
  };

  return {
    async send(sending, signal) {
      throwIfAborted(signal);
      const beganMs = clock.monotonicMs();
      const took = (): number => Math.round(clock.monotonicMs() - beganMs);
      const late = AbortSignal.timeout(sending.timeoutMs);
      const both = AbortSignal.any([signal, late]);
      try {
        const answer = await call(sending, both).catch((error: unknown) => {
          // The receiver had closed the connection that was kept: it has read nothing, and a new one is made.
          if (error instanceof StaleConnection) return call(sending, both);
          throw error;
        });
        return { ...judge(answer, clock), tookMs: took() };
      } catch (error) {
        throwIfAborted(signal);
        const none = { code: 0, body: "", tookMs: took() };
        if (error instanceof RefusedAddress) {
          const message = `${error.message}: webhooks.allowPrivate or allowCidrs of the controller would let it`;
          return { ...none, outcome: "Refused", message };
        }
        if (late.aborted) return { ...none, outcome: "Failed", message: `no answer within ${sending.timeoutMs} ms` };
        return { ...none, outcome: "Failed", message: (error as Error).message || String(error) };
      }
    },
    [Symbol.dispose]() {
      http.destroy();
      https.destroy();
    },
  };
}

interface Answer {
  readonly code: number;
  readonly retryAfter: string | undefined;
  readonly body: string;
}

class StaleConnection extends Error {}

function exchange(request: ClientRequest, body: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  request.on("error", (error: NodeJS.ErrnoException) => {
    const stale = request.reusedSocket && error.code === "ECONNRESET";
    reject(stale ? new StaleConnection(error.message) : error);
  });
  request.on("response", (response) => {
    readSome(response).then(
      (text) => resolve({ code: response.statusCode ?? 0, retryAfter: response.headers["retry-after"], body: text }),
      reject,
    );
  });
  request.end(body);
  return promise;
}

async function readSome(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    parts.push(part);
    length += part.length;
    if (length > MOST_BODY) break;
  }
  return Buffer.concat(parts).subarray(0, MOST_BODY).toString();
}

function judge({ code, retryAfter, body }: Answer, clock: Clock): Omit<SendResult, "tookMs"> {
  if (code >= 200 && code < 300) return { outcome: "Delivered", code, message: "", body };
  if (code === 410) return { outcome: "Gone", code, message: "answered 410: nobody wants these events any more", body };
  const message =
    code >= 300 && code < 400 ? `answered ${code}: redirects are not followed` : `answered ${code}${excerpt(body)}`;
  const retryAfterMs = parseRetryAfter(retryAfter, clock.nowMs());
  return { outcome: "Failed", code, message, body, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
}

/** Its first line, for a table. */
function excerpt(body: string): string {
  const line = body.split("\n", 1)[0]!.replaceAll(/[^\x20-\x7e]/g, " ").trim(); // prettier-ignore
  return line === "" ? "" : `: ${line.slice(0, 120)}`;
}

/** Seconds, or a date. */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  const ms = /^[0-9]{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - nowMs;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), MOST_RETRY_AFTER_MS);
}
