/**
 * When the full set is asked for (D5): on every connection, when a job asks, from time to time, and when the lease's answer names
 * a revision that this node has not applied.
 *
 * The latter is the rule while work comes in: jobs raise the revision and sets alone apply it. A set costs the controller more
 * than all the jobs that it would repeat, so the answer is weighed:
 *  - another store than the applied one: at once;
 *  - a revision that no job has brought: its job may be on its way; at the next answer it is late, and the set is asked for;
 *  - one that jobs have brought: nothing is known to be missing. One of them may have been lost before a later one came, so
 *    the set is asked for all the same, later, once for all that came until then.
 */
import { create } from "@bufbuild/protobuf";
import { anySignal, backoffMs, StatusError, type Clock, type Logger } from "@berth/base";
import { assignmentsEndpoint, type Bus } from "@berth/bus";
import { AssignmentsRequestSchema, type AssignmentsReply } from "@berth/proto";
import type { Origin } from "../../engine/intent.ts";
import { joinPages, type Assignments, type AssignmentSet } from "./assignments.ts";

export interface SyncDeps {
  readonly bus: Bus;
  readonly node: string;
  readonly assignments: Pick<Assignments, "applySet">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default Math.random: a thousand nodes that were given work together shall not ask together. */
  readonly random?: () => number;
}

export interface SyncTimes {
  /** Without any reason. */
  readonly everyMs?: number;
}

const EVERY_MS = 300_000;
/** Lease periods after the first job that no set has confirmed yet; and up to twice as many again, by chance. */
const CONFIRM_RENEWALS = 3;

export class AssignmentSync {
  readonly #deps: SyncDeps;
  #wanted = Promise.withResolvers<void>();
  /** The newest revision that a job has brought. */
  #brought: Origin = { storeEpoch: "", revision: 0 };
  /** Of the answer before, when no job had brought it by then. */
  #missing: Origin | undefined;
  #newest: Origin = { storeEpoch: "", revision: 0 };
  #confirming: AbortController | undefined;

  constructor(deps: SyncDeps) {
    this.#deps = deps;
  }

  /** The newest revision of a store that a job has brought; 0: none. */
  brought(storeEpoch: string): number {
    return this.#brought.storeEpoch === storeEpoch ? this.#brought.revision : 0;
  }

  /** A job's intent is durable. */
  took(origin: Origin): void {
    const newer = origin.storeEpoch !== this.#brought.storeEpoch || origin.revision > this.#brought.revision;
    if (newer) this.#brought = origin;
  }

  /**
   * A lease's answer: the controller's newest revision of this node, what this node has applied, and how long it is until the
   * next answer, which grows with the fleet as the cost of its sets does.
   */
  heard(newest: Origin, applied: Origin, renewAfterMs: number): void {
    this.#newest = newest;
    if (newest.storeEpoch !== applied.storeEpoch) return this.want();
    if (newest.revision <= applied.revision) return;
    if (this.#hasBrought(newest)) {
      this.#missing = undefined;
      const waitMs = CONFIRM_RENEWALS * renewAfterMs * (1 + 2 * (this.#deps.random ?? Math.random)());
      this.#confirmIn(waitMs);
      return;
    }
    if (this.#missing !== undefined && !this.#hasBrought(this.#missing)) this.want();
    this.#missing = newest;
  }

  /** Does the controller have a newer set than this one, as far as is known? */
  isBehind(applied: Origin): boolean {
    return this.#newest.storeEpoch !== applied.storeEpoch || this.#newest.revision > applied.revision;
  }

  #confirmIn(waitMs: number): void {
    if (this.#confirming !== undefined) return;
    this.#confirming = new AbortController();
    this.#deps.clock.sleep(waitMs, this.#confirming.signal).then(
      () => this.want(),
      () => {},
    );
  }

  #hasBrought({ storeEpoch, revision }: Origin): boolean {
    return this.#brought.storeEpoch === storeEpoch && this.#brought.revision >= revision;
  }

  /** Asks soon; asking often is the same as asking once. */
  want(): void {
    this.#wanted.resolve();
  }

  async run(signal: AbortSignal, { everyMs = EVERY_MS }: SyncTimes = {}): Promise<void> {
    const { bus, clock, logger, random = Math.random } = this.#deps;
    using _watching = bus.onState((state) => {
      if (state === "connected") this.want();
    });
    let failures = 0;
    signal.addEventListener("abort", () => this.#confirming?.abort(), { once: true });
    while (!signal.aborted) {
      this.#wanted = Promise.withResolvers<void>();
      this.#confirming?.abort();
      this.#confirming = undefined;
      try {
        await bus.connected(signal);
        await this.#deps.assignments.applySet(await this.#fetch(signal));
        failures = 0;
        await this.#idle(everyMs * (1 + random() / 2), signal);
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
