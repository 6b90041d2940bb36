/** A receiver of webhooks on loopback: remembers what came, checks signatures as a receiver would, and answers as it is told to. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { eventually } from "@berth/testkit/servers";

export interface Received {
  readonly id: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
  /** The events in it, alone or an array. */
  readonly events: readonly { readonly id: string; readonly type: string; readonly subject: string; readonly data: Record<string, unknown> }[]; // prettier-ignore
}

/** What is answered; `hang`: nothing, for as long as the caller waits. */
export type Answer = number | "hang" | { readonly status: number; readonly headers: Record<string, string> };

export class WebhookReceiver implements AsyncDisposable {
  readonly received: Received[] = [];
  answer: (request: Received, nth: number) => Answer = () => 204;
  #server = createServer((request, response) => void this.#take(request, response));
  #port = 0;

  async listen(): Promise<this> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once("error", reject);
    this.#server.listen(this.#port, "127.0.0.1", resolve);
    await promise;
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/hook`;
  }

  /** Those that it took, each event once, in the order of the first time. */
  get taken(): string[] {
    return [...new Set(this.received.flatMap(({ events }) => events.map(({ subject }) => subject)))];
  }

  /** As when its process is killed; {@link listen} starts it again on the same port. */
  async kill(): Promise<void> {
    const server = this.#server;
    const closed = Promise.withResolvers<void>();
    server.close(() => closed.resolve());
    server.closeAllConnections();
    await closed.promise;
    this.#server = createServer((request, response) => void this.#take(request, response));
  }

  async hears(count: number): Promise<void> {
    await eventually(`${count} requests, ${this.received.length} came`, () => this.received.length >= count, {
      timeoutMs: 20_000,
      intervalMs: 20,
    });
  }

  async takes(count: number): Promise<void> {
    await eventually(`${count} events`, () => this.taken.length >= count, { timeoutMs: 20_000, intervalMs: 20 });
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const parts: Buffer[] = [];
      for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
      const body = Buffer.concat(parts).toString();
      const parsed = JSON.parse(body) as Received["events"][number] | Received["events"];
      const received: Received = {
        id: String(request.headers["webhook-id"]),
        headers: request.headers,
        body,
        events: Array.isArray(parsed) ? parsed : [parsed as Received["events"][number]],
      };
      this.received.push(received);
      const answer = this.answer(received, this.received.length);
      if (answer === "hang") return;
      const { status, headers } = typeof answer === "number" ? { status: answer, headers: {} } : answer;
      response.writeHead(status, headers).end(status < 300 ? "" : "no thanks");
    } catch {
      response.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** How many of the signatures are by this secret: written from the specification, apart from what signs. */
export function signaturesBy(secret: string, { headers, body, id }: Received): number {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const signed = `${id}.${String(headers["webhook-timestamp"])}.${body}`;
  const expected = createHmac("sha256", key).update(signed).digest();
  return String(headers["webhook-signature"])
    .split(" ")
    .map((one) => one.split(","))
    .filter(([version, text = ""]) => version === "v1" && sameBytes(Buffer.from(text, "base64"), expected)).length;
}

function sameBytes(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
