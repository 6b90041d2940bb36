/** When the full set is asked for: on every connection, when the lease's answer says so, when a job asks, and every minute. */
import { create } from "@bufbuild/protobuf";
import { anySignal, backoffMs, StatusError, type Clock, type Logger } from "@berth/base";
import { assignmentsEndpoint, type Bus } from "@berth/bus";
import { AssignmentsRequestSchema, type AssignmentsReply } from "@berth/proto";
import { joinPages, type Assignments, type AssignmentSet } from "./assignments.ts";

export interface SyncDeps {
  readonly bus: Bus;
  readonly node: string;
  readonly assignments: Pick<Assignments, "applySet">;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class AssignmentSync {
  readonly #deps: SyncDeps;
  #wanted = Promise.withResolvers<void>();

  constructor(deps: SyncDeps) {
    this.#deps = deps;
  }

  /** Asks soon; asking often is the same as asking once. */
  want(): void {
    this.#wanted.resolve();
  }

  async run(signal: AbortSignal, everyMs = 60_000): Promise<void> {
    const { bus, clock, logger } = this.#deps;
    using _watching = bus.onState((state) => {
      if (state === "connected") this.want();
    });
    let failures = 0;
    while (!signal.aborted) {
      this.#wanted = Promise.withResolvers<void>();
      try {
        await bus.connected(signal);
        await this.#deps.assignments.applySet(await this.#fetch(signal));
        failures = 0;
        await this.#idle(everyMs, signal);
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        const status = StatusError.from(error);
        const waitMs = backoffMs({ initialMs: 250, maxMs: 15_000, factor: 2 }, Math.min(failures, 20));
        logger.warn({ reason: status.reason, failures, waitMs }, `assignments not taken over: ${status.message}`);
        await clock.sleep(waitMs, signal).catch(() => {});
      }
    }
  }

  async #idle(everyMs: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const sleep = this.#deps.clock.sleep(everyMs, anySignal(signal, woken.signal)).catch(() => {});
    await Promise.race([this.#wanted.promise, sleep]);
    woken.abort();
    await sleep;
  }

  async #fetch(signal: AbortSignal): Promise<AssignmentSet> {
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const set = joinPages(await this.#pages(signal));
      if (set !== undefined) return set;
    }
    throw new StatusError("ABORTED", "the assignments changed each time they were read");
  }

  async #pages(signal: AbortSignal): Promise<AssignmentsReply[]> {
    const { bus, node } = this.#deps;
    const pages: AssignmentsReply[] = [];
    for (let offset = 0; ;) {
      const request = create(AssignmentsRequestSchema, { node, offset });
      const page = await bus.request(assignmentsEndpoint, node, request, { timeoutMs: 10_000, signal });
      pages.push(page);
      if (page.nextOffset === 0) return pages;
      offset = page.nextOffset;
    }
  }
}
