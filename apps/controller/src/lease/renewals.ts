/**
 * Lease requests as they come, answered in batches after their write. Most say what was said before, of a node whose row is as it
 * was: those are renewed by one short statement (`renewKnown`). All others have a transaction that looks closely (`renew.ts`).
 */
import { SenderMemory } from "@berth/bus";
import type { LeaseReply, LeaseRequest } from "@berth/proto";
import { renewKnown, type KnownRenewal, type LeaseRenewal, type RenewedLease, type Store } from "@berth/store";
import { LeaseBatcher } from "./batcher.ts";
import { leaseReply, renewBatch, type RenewTerms } from "./renew.ts";
import { factsOf, renewalOf, wrongBySeconds } from "./request.ts";

export interface RenewalsDeps {
  readonly store: Store;
  readonly shards: number;
  /** As they are now. */
  readonly terms: () => RenewTerms;
  /** Nodes that were silent are heard again. */
  readonly onReturned: (nodes: readonly string[]) => void;
  /** Requests could not be answered, for the store's sake. */
  readonly onFailure: () => void;
}

/** All that an agent says of its node and that its row is to say. */
interface Said {
  readonly facts: string;
  readonly clockWrongBySeconds: number | undefined;
}

/** What the agent said that was granted, and the version of the row that says it. */
interface Known extends Said {
  readonly resourceVersion: number;
}

/** `renewal`: it wants a closer look from the first. */
interface Ask {
  readonly name: string;
  readonly request: LeaseRequest;
  readonly said: Said;
  readonly known: Known | undefined;
  readonly renewal: LeaseRenewal | undefined;
}

/** Requests that come within a share of the time between two of one node are written together, but none waits long for it. */
const GATHER_SHARE = 1 / 20;
const GATHER_MOST_MS = 200;

export class Renewals {
  readonly #deps: RenewalsDeps;
  readonly #known = new SenderMemory<Known>();
  readonly #batcher: LeaseBatcher<Ask>;

  constructor(deps: RenewalsDeps) {
    this.#deps = deps;
    const write = async (asks: readonly Ask[]): Promise<readonly LeaseReply[]> => {
      try {
        return await this.#write(asks);
      } catch (error) {
        deps.onFailure();
        throw error;
      }
    };
    this.#batcher = new LeaseBatcher(write, {
      gatherMs: () => Math.min(GATHER_MOST_MS, deps.terms().renewMs * GATHER_SHARE),
    });
  }

  /**
   * @param node from the subject, which the broker has proven (D8).
   * @param facts of the request ({@link factsOf}), where they are known already.
   * @throws INVALID_ARGUMENT, PERMISSION_DENIED; UNAVAILABLE
   */
  renew(node: string, request: LeaseRequest, facts = factsOf(request)): Promise<LeaseReply> {
    const said: Said = { facts, clockWrongBySeconds: wrongBySeconds(request) };
    const remembered = this.#known.get(node);
    const known = remembered !== undefined && isSame(remembered, said) ? remembered : undefined;
    // What is known was found to be sound when it was said first.
    const renewal = known === undefined ? renewalOf(node, request, this.#deps.shards) : undefined;
    return this.#batcher.renew({ name: node, request, said, known, renewal });
  }

  /** Resolves when nothing is being written. */
  idle(): Promise<void> {
    return this.#batcher.idle();
  }

  async #write(asks: readonly Ask[]): Promise<readonly LeaseReply[]> {
    const { store } = this.#deps;
    const terms = this.#deps.terms();
    // protocol: LeaseGranted
    const renewed = await renewKnown(store.db, asks.flatMap(knownRenewal), terms.ttlMs);
    const byName = new Map(renewed.map((lease) => [lease.name, lease]));
    const rest = asks.filter(({ name }) => !byName.has(name));
    const looked = rest.length === 0 ? new Map<string, LeaseReply>() : await this.#lookClosely(rest, terms);
    return asks.map(({ name, request }) => {
      const lease: RenewedLease | undefined = byName.get(name);
      return lease === undefined ? looked.get(name)! : leaseReply(lease, request.journalEpoch, terms);
    });
  }

  async #lookClosely(asks: readonly Ask[], terms: RenewTerms): Promise<ReadonlyMap<string, LeaseReply>> {
    const { store, shards, onReturned } = this.#deps;
    const renewals = asks.map(({ name, request, renewal }) => renewal ?? renewalOf(name, request, shards));
    const { replies, returned, versions } = await store.transaction((tx) => renewBatch(tx, renewals, terms));
    for (const { name, said } of asks) {
      const resourceVersion = versions.get(name);
      if (resourceVersion === undefined) this.#known.delete(name);
      else this.#known.set(name, { ...said, resourceVersion });
    }
    if (returned.length > 0) onReturned(returned);
    return new Map(asks.map(({ name }, index) => [name, replies[index]!]));
  }
}

const isSame = (one: Said, other: Said): boolean =>
  one.facts === other.facts && one.clockWrongBySeconds === other.clockWrongBySeconds;

function knownRenewal({ name, request, known }: Ask): KnownRenewal[] {
  if (known === undefined) return [];
  const { instance, journalEpoch } = request;
  return [
    {
      name,
      resourceVersion: known.resourceVersion,
      instance,
      journalEpoch,
      journalHeadSeq: Number(request.journalHeadSeq),
      appliedRevision: Number(request.appliedRevision),
      takenRevision: Number(request.takenRevision),
      appliedStoreEpoch: request.storeEpoch,
    },
  ];
}
