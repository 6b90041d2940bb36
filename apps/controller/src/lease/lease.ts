/**
 * Who is alive (DESIGN, flow C): answers `lease.<node>`, `assignments.<node>` and `mirrors.<node>`, and notices silence.
 *
 * Requests may come to any controller; silence is noticed by the one that holds a lock.
 */
import { Lifetime, StatusError, throwIfAborted, type Logger } from "@berth/base";
import {
  assignmentsEndpoint,
  FactsReader,
  holdingsEndpoint,
  leaseEndpoint,
  mirrorsEndpoint,
  type Bus,
  type ReadRequest,
} from "@berth/bus";
import { create } from "@bufbuild/protobuf";
import {
  HoldingsReplySchema,
  type AssignmentsRequest,
  type HoldingsRequest,
  type LeaseReply,
  type MirrorsRequest,
} from "@berth/proto";
import { LEASE_EXPIRY_LOCK, surveyLeases, type HeldLock, type LeaseSurvey, type Store } from "@berth/store";
import { startLoop } from "../loop/loop.ts";
import type { LeaseMetrics } from "../metrics.ts";
import type { EvictionConfig } from "../reconcile/eviction.ts";
import { readAssignments } from "./assignments.ts";
import { alignCertainty } from "./certainty.ts";
import { expireLeases } from "./expiry.ts";
import { alignHolds } from "./holds.ts";
import { readMirrors } from "./mirrors.ts";
import { noticeCopy } from "../restore/begin.ts";
import { takeHoldings } from "../restore/holdings.ts";
import { tryRelease } from "../restore/release.ts";
import type { RenewTerms } from "./renew.ts";
import { Renewals } from "./renewals.ts";
import { factsOf } from "./request.ts";
import { leaseTerms, type LeaseTerms } from "./terms.ts";

export interface LeaseDeps {
  readonly store: Store;
  readonly bus: Pick<Bus, "serve" | "onState" | "state">;
  readonly logger: Logger;
  readonly metrics: LeaseMetrics;
}

export interface LeaseConfig {
  readonly ttlMs: number;
  readonly renewMs: number;
  /** Bound on how late a node's stopper is. */
  readonly fenceSlackMs: number;
  /** Beyond so many renewals a second, leases are made longer. */
  readonly maxRenewalsPerSecond: number;
  readonly eviction: EvictionConfig;
  /** How many journal shards the nodes are divided over. The same in every controller. */
  readonly shards: number;
  /** How often silence is looked for; more rarely where leases last long ({@link LOOK_SHARE}). */
  readonly expiryMs?: number;
}

export interface Leases extends AsyncDisposable {
  readonly heldSinceMs: number;
}

/** With what it says of its node but what each renewal says anew. */
type SaidLease = ReadRequest<typeof leaseEndpoint.request, string>;

/** A look reads every node; silence is noticed this much of a lease late, at the most. */
const LOOK_SHARE = 1 / 20;

/** One of the controllers gets each request. */
const QUEUE = "controllers";

export async function startLeases(
  deps: LeaseDeps,
  config: LeaseConfig,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Leases> {
  throwIfAborted(options.signal);
  const { store, bus, logger, metrics } = deps;
  const { expiryMs = Math.min(1_000, Math.max(50, config.ttlMs / 10)) } = config;
  const lifetime = new Lifetime(options.signal);
  /** By the size of the fleet; looked at in each round. */
  const termsFor = ({ nodes }: LeaseSurvey): LeaseTerms => leaseTerms(config, nodes, config.maxRenewalsPerSecond);
  let terms = termsFor(await surveyLeases(store.db));
  const renewTerms = (): RenewTerms => ({ ...terms, slackMs: config.fenceSlackMs });
  if (await noticeCopy(store, renewTerms())) logger.warn({}, "the store was put back from a copy: it is held");
  /** Since when every agent could have renewed. */
  let hearingSinceMs = performance.now();
  const deaf = (): void => {
    hearingSinceMs = performance.now();
  };

  const renewals = new Renewals({
    store,
    shards: config.shards,
    terms: renewTerms,
    onReturned: () => expiry.ring(),
    onFailure: deaf,
  });

  let lock: HeldLock | undefined;
  let lastRoundMs = performance.now();
  const expiry = startLoop(
    { logger },
    {
      name: "lease expiry",
      onFailure: deaf,
      async round() {
        const survey = await surveyLeases(store.db);
        terms = termsFor(survey);
        const { ttlMs } = terms;
        // A process that was stopped or starved has heard nobody either.
        if (performance.now() - lastRoundMs > ttlMs / 2 + Math.max(expiryMs, ttlMs * LOOK_SHARE)) deaf();
        lastRoundMs = performance.now();
        if (lock === undefined || lock.signal.aborted) {
          lock = await store.locks.tryAcquire(LEASE_EXPIRY_LOCK);
          deaf();
        }
        const hears = bus.state === "connected" && performance.now() - hearingSinceMs >= ttlMs;
        const expired = lock !== undefined && hears && survey.expired > 0 ? await expireLeases(store) : [];
        for (const node of expired) logger.warn({ node: node.name }, "a node is silent");
        const silent = survey.silent + expired.length;
        if (silent > 0 || survey.unreachable) await alignCertainty(store, { slackMs: config.fenceSlackMs });
        if (lock !== undefined && (silent > 0 || survey.held > 0)) await alignHolds(store, config.eviction);
        if (lock !== undefined && (await tryRelease(store, renewTerms())))
          logger.info({}, "the restored store is released");
        return Math.max(expiryMs, ttlMs * LOOK_SHARE);
      },
    },
    lifetime.signal,
  );
  lifetime.defer(async () => await lock?.[Symbol.asyncDispose]());
  lifetime.own(expiry);
  lifetime.defer(() => renewals.idle());
  lifetime.own(bus.onState(deaf));

  const answerLease = async ({ message, facts }: SaidLease, node: string): Promise<LeaseReply> => {
    const started = performance.now();
    const seconds = (): number => (performance.now() - started) / 1_000;
    try {
      const reply = await renewals.renew(node, message, facts);
      if (reply.refused !== "") logger.warn({ node, why: reply.refused }, "a lease was refused");
      metrics.leaseAnswered(reply.refused === "" ? "granted" : "refused", seconds());
      return reply;
    } catch (error) {
      metrics.leaseAnswered("error", seconds());
      throw StatusError.from(error, `lease of ${node}`);
    }
  };
  const reader = new FactsReader({ schema: leaseEndpoint.request, news: leaseEndpoint.news, factsOf });
  const read = (payload: Uint8Array, node: string): SaidLease => reader.read(node, payload);
  lifetime.own(bus.serve(leaseEndpoint, { queue: QUEUE, read }, (said, { node }) => answerLease(said, node)));
  lifetime.own(
    bus.serve(assignmentsEndpoint, { queue: QUEUE }, (request: AssignmentsRequest, { node }) => {
      if (request.node === node) return readAssignments(store, node, request.offset);
      throw new StatusError("PERMISSION_DENIED", `node ${node} asked for the assignments of ${request.node}`, {
        reason: "LEASE_FOREIGN",
      });
    }),
  );
  lifetime.own(
    bus.serve(mirrorsEndpoint, { queue: QUEUE }, (request: MirrorsRequest, { node }) => {
      if (request.node === node) return readMirrors(store, request.offset);
      throw new StatusError("PERMISSION_DENIED", `node ${node} asked for the mirrors in the name of ${request.node}`, {
        reason: "LEASE_FOREIGN",
      });
    }),
  );
  lifetime.own(
    bus.serve(holdingsEndpoint, { queue: QUEUE }, async (request: HoldingsRequest, { node }) => {
      if (request.node !== node) {
        throw new StatusError("PERMISSION_DENIED", `node ${node} told the holdings of ${request.node}`, {
          reason: "LEASE_FOREIGN",
        });
      }
      const refused = await store.transaction((tx) => takeHoldings(tx, node, request));
      if (refused !== "") logger.info({ node, why: refused }, "what a node holds was not taken");
      return create(HoldingsReplySchema, { refused });
    }),
  );
  return {
    get heldSinceMs() {
      return hearingSinceMs;
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}
