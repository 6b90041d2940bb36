/**
 * A campaign while it runs: its targets from the store, and the bytes of running pulls as the nodes report them.
 *
 * Progress is news, not truth (D1): it comes by NATS, is never stored, and its loss shows as a bar that stands still. What
 * changed is sent at most every `INTERVAL_MS`; the watch ends when the campaign's newest generation has ended.
 */
import { clone, create, equals, fromBinary } from "@bufbuild/protobuf";
import { StatusError, systemClock, throwIfAborted, type Clock, type Logger } from "@berth/base";
import { nodeOfSubject, progressSubject, type FrameBus } from "@berth/bus";
import {
  CampaignTargetSchema,
  ProgressReportSchema,
  WatchProgressResponseSchema,
  type CampaignTarget,
  type PullProgress,
  type WatchProgressResponse,
} from "@berth/proto";
import { campaignStatus, getCampaign, listTargets, type CampaignRow, type Store } from "@berth/store";
import { notFound } from "./refusals.ts";

export interface ProgressDeps {
  readonly store: Store;
  readonly bus: FrameBus;
  readonly logger: Logger;
  readonly clock?: Clock;
}

const INTERVAL_MS = 250;

export async function* watchProgress(
  deps: ProgressDeps,
  campaign: CampaignRow,
  signal: AbortSignal,
): AsyncGenerator<WatchProgressResponse> {
  const { store, clock = systemClock } = deps;
  const { namespace, name, uid } = campaign;
  using news = listenToProgress(deps, namespace);
  const sent = new Map<string, CampaignTarget>();
  for (let seen = -1; ;) {
    const row = await getCampaign(store.db, namespace, name);
    if (row === undefined || row.uid !== uid) throw notFound("campaign", name, namespace);
    const targets = (await listTargets(store.db, uid)).map((target) => withProgress(target, news.of(target)));
    const changed = targets.filter((target) => remember(sent, target));
    if (changed.length > 0 || row.resourceVersion !== seen) {
      yield create(WatchProgressResponseSchema, { status: campaignStatus(row), targets: changed });
    }
    seen = row.resourceVersion;
    if (hasEnded(row)) return;
    throwIfAborted(signal);
    await clock.sleep(INTERVAL_MS, signal);
  }
}

function hasEnded(row: CampaignRow): boolean {
  return row.observedGeneration === row.generation && row.phase !== "Running";
}

function withProgress(target: CampaignTarget, progress: PullProgress | undefined): CampaignTarget {
  if (progress === undefined || target.phase !== "Pulling") return target;
  return { ...target, progress };
}

/** Whether a target is other than when it was last sent. */
function remember(sent: Map<string, CampaignTarget>, target: CampaignTarget): boolean {
  const key = `${target.node} ${target.image}`;
  const before = sent.get(key);
  if (before !== undefined && equals(CampaignTargetSchema, before, target)) return false;
  sent.set(key, clone(CampaignTargetSchema, target));
  return true;
}

interface ProgressNews extends Disposable {
  of(target: CampaignTarget): PullProgress | undefined;
}

/** The newest report of each node about the images of one namespace. */
function listenToProgress({ bus, logger }: ProgressDeps, namespace: string): ProgressNews {
  const newest = new Map<string, PullProgress>();
  const subscription = bus.subscribe(progressSubject("*"), (payload, subject) => {
    // The subject's node is proven by the broker; the message's is only said.
    const node = nodeOfSubject(subject);
    try {
      const { images } = fromBinary(ProgressReportSchema, payload);
      for (const { namespace: of, image, progress } of images) {
        if (of === namespace && progress !== undefined) newest.set(`${node} ${image}`, progress);
      }
    } catch (error) {
      logger.warn({ err: StatusError.from(error) }, "a progress report could not be read");
    }
  });
  return {
    of: ({ node, image }) => newest.get(`${node} ${image}`),
    [Symbol.dispose]: () => subscription[Symbol.dispose](),
  };
}
