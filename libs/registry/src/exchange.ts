/** One authorised request of one endpoint: paths, the namespace for mirrors, and 401s answered at most twice. */
import type { StatusError } from "@berth/base";
import type { Authoriser } from "./auth.ts";
import { fromAnswer, fromBrokenBody } from "./errors.ts";
import type { Attempt } from "./failover.ts";
import { wantsNamespace, type Endpoint } from "./routes/endpoint.ts";
import { retryAfterMs, type Answer, type Transport, type TransportRequest } from "./transport.ts";

export interface Ask {
  /** Below the API's root, such as `/team/app/manifests/v1`; or an URL that the endpoint gave, such as an upload's. */
  readonly path: string | URL;
  readonly query?: Readonly<Record<string, string>>;
  readonly method: TransportRequest["method"];
  readonly headers?: Readonly<Record<string, string>>;
  /** Makes the body, anew for each try. */
  readonly body?: () => NonNullable<TransportRequest["body"]>;
  /** Of the token: `repository:team/app:pull`; several with spaces between. */
  readonly scope: string;
}

export class Exchange {
  readonly #transport: Transport;
  readonly #auth: Authoriser;

  constructor(transport: Transport, auth: Authoriser) {
    this.#transport = transport;
    this.#auth = auth;
  }

  /** The answer to an authorised request, of whatever status. A 401 is answered at most twice: old token, then new one. */
  async send(ask: Ask, { endpoint, subject, limits, signal }: Attempt): Promise<Answer> {
    const url = urlOf(ask, endpoint);
    const own = url.origin === endpoint.origin;
    let authorization = own ? this.#auth.header(endpoint.origin, ask.scope) : undefined;
    for (let attempts = 0; ; attempts += 1) {
      const headers = { ...ask.headers, ...(authorization === undefined ? {} : { authorization }) };
      const body = ask.body === undefined ? {} : { body: ask.body() };
      const answer = await this.#transport.send({ url, method: ask.method, headers, ...body, subject, limits, signal });
      if (answer.status !== 401 || !answer.isOwn || attempts === 2) return answer;
      const next = await this.#auth.answer(answer, { scope: ask.scope, subject, limits, signal }, authorization);
      if (next === undefined) return answer;
      await this.#transport.discard(answer);
      authorization = next;
    }
  }

  /** The answer, if it has one of these statuses. @throws what the server says otherwise */
  async expect(ask: Ask, attempt: Attempt, ...statuses: readonly number[]): Promise<Answer> {
    const answer = await this.send(ask, attempt);
    if (!statuses.includes(answer.status)) throw await this.refusal(answer, attempt);
    return answer;
  }

  async refusal(answer: Answer, { subject }: Attempt): Promise<StatusError> {
    const said = await this.#transport.said(answer, subject);
    return fromAnswer(answer.status, retryAfterMs(answer, this.#transport.clock.nowMs()), said, subject);
  }

  /** A short body, read in bounded time; undefined when it has more than `maxBytes`. */
  async read(answer: Answer, maxBytes: number, { subject, signal }: Attempt): Promise<Buffer | undefined> {
    try {
      return await this.#transport.read(answer, maxBytes, subject);
    } catch (error) {
      throw fromBrokenBody(error, subject, signal);
    }
  }

  async discard(answer: Answer): Promise<void> {
    await this.#transport.discard(answer);
  }
}

function urlOf({ path, query = {} }: Ask, endpoint: Endpoint): URL {
  const url = typeof path === "string" ? new URL(endpoint.origin + endpoint.apiRoot + path) : new URL(path);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  if (typeof path === "string" && wantsNamespace(endpoint)) url.searchParams.set("ns", endpoint.registry);
  return url;
}
