/**
 * The node's lease: "I am here", answered by the controller after its Postgres write (flow C).
 *
 * The agent counts its lease from the moment the request was sent, by CLOCK_BOOTTIME, so that it never believes in it longer
 * than the controller does. Losing it stops nothing here: containers go on, and what happens is journaled; what is fenced is
 * ended by the stopper (`stopper/stopper.ts`).
 */
import { StatusError, type Clock, type Logger } from "@berth/base";
import { leaseEndpoint, type Bus } from "@berth/bus";
import type { LeaseReply } from "@berth/proto";
import type { Description } from "./node-status.ts";

export interface LeaseDeps {
  readonly bus: Bus;
  readonly node: string;
  /** What the agent says of itself now. */
  readonly describe: () => Description;
  /** The lease lasts until then, by CLOCK_BOOTTIME. */
  readonly onReply: (reply: LeaseReply, untilBoottimeMs: number) => void;
  readonly boottimeMs: () => number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default Math.random. */
  readonly random?: () => number;
}

export interface LeaseState {
  /** CLOCK_BOOTTIME until which the lease lasts, unless it was refused since; 0 before the first. */
  readonly untilBoottimeMs: number;
  /** When the request of the last lease was sent; how long it was to last; how late a stopper may be, as the controller reckons. */
  readonly heardBoottimeMs: number;
  readonly ttlMs: number;
  readonly fenceSlackMs: number | undefined;
  readonly refused: string;
}

const NEVER: LeaseState = { untilBoottimeMs: 0, heardBoottimeMs: 0, ttlMs: 0, fenceSlackMs: undefined, refused: "" };

const FIRST_RENEW_MS = 2_000;
const REQUEST_TIMEOUT_MS = { least: 1_000, most: 5_000 };
/** A request that is lost with a controller shall not cost the lease: there is time for another one. */
const REQUEST_SHARE = 1 / 4;
/** A fleet that began together (a controller came back) shall not ask together for ever: up to so much sooner, or later. */
const JITTER = 0.1;

export class Lease {
  readonly #deps: LeaseDeps;
  #state: LeaseState = NEVER;
  #renewAfterMs = FIRST_RENEW_MS;

  constructor(deps: LeaseDeps) {
    this.#deps = deps;
  }

  get state(): LeaseState {
    return this.#state;
  }

  isHeld(): boolean {
    return this.#state.refused === "" && this.#deps.boottimeMs() < this.#state.untilBoottimeMs;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { bus, clock, random = Math.random } = this.#deps;
    while (!signal.aborted) {
      try {
        await bus.connected(signal);
        await this.#renew(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(StatusError.from(error));
      }
      const jitter = 1 + JITTER * (2 * random() - 1);
      await clock.sleep(Math.round(this.#renewAfterMs * jitter), signal).catch(() => {});
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { bus, node, logger } = this.#deps;
    const { facts, news } = this.#deps.describe();
    const sentMs = this.#deps.boottimeMs();
    const reply = await bus.request(leaseEndpoint, node, news, { facts, timeoutMs: this.#timeoutMs(), signal });
    if (reply.renewAfterMs > 0n) this.#renewAfterMs = Number(reply.renewAfterMs);
    if (reply.refused !== "") {
      if (this.#state.refused !== reply.refused) logger.error({}, `the controller refuses the lease: ${reply.refused}`);
      this.#state = { ...this.#state, refused: reply.refused };
      return;
    }
    if (!this.isHeld()) logger.info({ ttlMs: Number(reply.ttlMs) }, "lease held");
    const ttlMs = Number(reply.ttlMs);
    const untilBoottimeMs = sentMs + ttlMs;
    const fenceSlackMs = reply.fenceSlackMs > 0n ? Number(reply.fenceSlackMs) : undefined;
    this.#state = { untilBoottimeMs, heardBoottimeMs: sentMs, ttlMs, fenceSlackMs, refused: "" };
    this.#deps.onReply(reply, untilBoottimeMs);
  }

  #timeoutMs(): number {
    const { least, most } = REQUEST_TIMEOUT_MS;
    const { ttlMs } = this.#state;
    return ttlMs === 0 ? most : Math.min(most, Math.max(least, ttlMs * REQUEST_SHARE));
  }

  #failed(status: StatusError): void {
    const held = this.isHeld();
    this.#deps.logger.warn({ reason: status.reason, held }, `lease not renewed: ${status.message}`);
  }
}
