/**
 * Adds what an operation makes to the lease that it runs under: each resource before the operation relies on its being
 * there, many to a transaction. What is added and never made does no harm: it is an edge to nothing.
 */
import { StatusError, type Logger } from "@berth/base";
import type { LeaseResource } from "./leases.ts";
import type { LeaseStore } from "./store.ts";

export class LeaseRecorder implements AsyncDisposable {
  readonly #store: LeaseStore;
  readonly #namespace: string;
  readonly #lease: string;
  readonly #logger: Logger;
  #waiting: LeaseResource[] = [];
  #written: Promise<void> = Promise.resolve();

  constructor(store: LeaseStore, namespace: string, lease: string, logger: Logger) {
    this.#store = store;
    this.#namespace = namespace;
    this.#lease = lease;
    this.#logger = logger;
  }

  /** A key of pins.ts; what is no blob or snapshot is left out. */
  readonly addPin = (key: string): void => {
    const [kind, ...rest] = key.split(" ");
    if (kind === "blob") this.add({ type: "content", id: rest[1]! });
    else if (kind === "snapshot") this.add({ type: `snapshots/${rest[0]!}`, id: rest[2]! });
  };

  /** Of one turn of the event loop, all go together. */
  add(resource: LeaseResource): void {
    this.#waiting.push(resource);
    if (this.#waiting.length === 1) this.#written = this.#written.then(() => this.#write());
  }

  /** Resolves when everything added so far is durable. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#written;
  }

  async #write(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    const resources = this.#waiting;
    this.#waiting = [];
    try {
      await this.#store.addResources(this.#namespace, this.#lease, resources);
    } catch (error) {
      // Deleted or expired meanwhile: the operation goes on, its own pins hold what it needs until it ends.
      const { reason, message } = StatusError.from(error);
      this.#logger.warn({ namespace: this.#namespace, lease: this.#lease, reason }, `a lease holds less: ${message}`);
    }
  }
}
