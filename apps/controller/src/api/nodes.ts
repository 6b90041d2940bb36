/**
 * NodeService: hosts as their agents made them known, and what an operator says of them.
 *
 * A node's labels are its agent's with the operator's laid over them; an apply states the result, and what differs from the
 * agent's is kept as the operator's. So what was read can be applied again and changes nothing.
 */
import { create, equals } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { StatusError, type Logger } from "@berth/base";
import { formatTaint, selectorMatches } from "@berth/model";
import {
  ListNodesResponseSchema,
  NodeDrainSchema,
  NodeSchema,
  NodeService,
  WatchNodesResponseSchema,
  type Node,
  type Watermark,
  type NodeDrain,
  type NodeSpec,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  drainOf,
  getNode,
  insertEvents,
  listNodes,
  listTasks,
  lockLeases,
  lockNode,
  lockTasksByUid,
  nodeMessages,
  nodeSpec,
  removeNode,
  updateNode,
  updateTasks,
  type NewEvent,
  type NodePatch,
  type NodeRow,
  type Store,
  type Tx,
  storeTime,
} from "@berth/store";
import { getAsOf, listAsOf } from "./as-of.ts";
import { allPages, listPage } from "./list.ts";
import { notFound, versionConflict } from "./refusals.ts";
import { appliedMetadata, selectorScope } from "./scope.ts";
import { schedulingPatch } from "./node-scheduling.ts";
import { markNodes } from "./watermark.ts";
import { fencedUntil } from "../lease/fenced-until.ts";
import type { HoldTerms } from "../restore/begin.ts";
import { watchResources, type WatchDeps } from "./watch.ts";

export interface NodeDeps extends WatchDeps {
  readonly logger: Logger;
  readonly holdTerms: HoldTerms;
  /** Drops what waits for a node that is gone for good. */
  readonly dropQueue: (node: string) => Promise<void>;
}

const PAST = { kind: "Node", schema: NodeSchema } as const;

export function nodeService(deps: NodeDeps): Implementation {
  const { store } = deps;
  return implement(NodeService, {
    async getNode({ name, asOf }) {
      if (asOf !== undefined) return await getAsOf(store, { ...PAST, asOf, namespace: "", name });
      const row = await getNode(store.db, name);
      if (row === undefined) throw notFound("node", name);
      return await messageOf(store.db, row);
    },
    async listNodes({ selector, pageSize, pageToken, asOf }) {
      const query = { pageSize, pageToken, ...selectorScope(selector) };
      if (asOf !== undefined) {
        return create(ListNodesResponseSchema, await listAsOf(store, { ...PAST, asOf, ...query }));
      }
      let watermark: Watermark | undefined;
      const page = await listPage(store, async (tx) => {
        const { items, nextPageToken } = await listNodes(tx, query);
        const nodes = await nodeMessages(tx, items);
        watermark = await markNodes(tx, nodes);
        return { items: nodes, nextPageToken };
      });
      return create(ListNodesResponseSchema, { ...page, items: [...page.items], ...(watermark && { watermark }) });
    },
    applyNode: ({ node, dryRun }) => applyNode(store, node!, dryRun),
    async deleteNode({ name }) {
      const node = await store.transaction((tx) => deleteNode(tx, name, deps.holdTerms));
      // Doorbells of a node that is no more: nothing is lost with them, and nothing is wrong if they stay.
      await deps.dropQueue(name).catch((err: unknown) => deps.logger.warn({ err, node: name }, "its queue stays"));
      return node;
    },
    async *watchNodes({ selector, cursor }, { signal }) {
      const labels = selectorScope(selector);
      const watch = watchResources(
        deps,
        {
          kind: "Node",
          schema: NodeSchema,
          cursor,
          list: async (tx) => await nodeMessages(tx, await allPages((page) => listNodes(tx, { ...page, ...labels }))),
          ...(labels.selector === undefined
            ? {}
            : { matches: ({ metadata }: Node) => selectorMatches(labels.selector!, metadata!.labels) }),
        },
        signal,
      );
      for await (const { event, resource } of watch) {
        yield create(WatchNodesResponseSchema, { event, ...(resource && { node: resource }) });
      }
    },
  });
}

function applyNode(store: Store, node: Node, dryRun: boolean): Promise<Node> {
  const metadata = appliedMetadata(node.metadata, false);
  const { name, resourceVersion } = metadata;
  return store.transaction(async (tx) => {
    const row = await lockNode(tx, name);
    if (row === undefined) throw notFound("node", name);
    if (resourceVersion !== 0n && resourceVersion !== BigInt(row.resourceVersion)) {
      throw versionConflict("node", name, resourceVersion, row.resourceVersion);
    }
    const patch = nodePatch(row, node, metadata.labels, await storeTime(tx));
    if (Object.keys(patch).length === 0) return await messageOf(tx, row);
    if (dryRun) return await preview(tx, row, patch);
    const updated = await updateNode(tx, row, patch);
    await insertEvents(tx, [eventOf(updated, patch)]);
    return await messageOf(tx, updated);
  });
}

/** What is different. A node without a spec keeps the one it has. */
function nodePatch(row: NodeRow, node: Node, given: Readonly<Record<string, string>>, now: Date): NodePatch {
  const labels = Object.fromEntries(Object.entries(given).filter(([key, value]) => row.agentLabels[key] !== value));
  const keys = Object.keys(labels);
  const same = keys.length === Object.keys(row.labels).length && keys.every((key) => row.labels[key] === labels[key]);
  return { ...(same ? {} : { labels }), ...specPatch(row, node.spec, now) };
}

/** A node that is drained is cordoned, whatever else is said. The same drain again goes on as it is. */
function specPatch(row: NodeRow, given: NodeSpec | undefined, now: Date): NodePatch {
  if (given === undefined) return {};
  const cordoned = given.cordoned || given.drain !== undefined;
  const before = drainOf(row);
  const drain =
    given.drain === undefined
      ? undefined
      : create(NodeDrainSchema, { ...given.drain, onDeadline: given.drain.onDeadline || "giveUp" });
  const same = drain === undefined || before === undefined ? drain === before : equals(NodeDrainSchema, drain, before);
  return {
    ...(cordoned === row.cordoned ? {} : { cordoned }),
    ...(same ? {} : { drain: drain ?? null }),
    ...schedulingPatch(row, given, now),
  };
}

async function preview(tx: Tx, row: NodeRow, patch: NodePatch): Promise<Node> {
  const shown = await messageOf(tx, row);
  const { labels, drain, ...columns } = patch;
  const newSpec = drain !== undefined || Object.keys(columns).length > 0;
  shown.metadata!.labels = { ...row.agentLabels, ...(labels ?? row.labels) };
  shown.metadata!.generation += newSpec ? 1n : 0n;
  shown.spec = nodeSpec({ ...row, ...columns, drain: null });
  const drained = drain === undefined ? drainOf(row) : (drain ?? undefined);
  if (drained !== undefined) shown.spec.drain = drained;
  return shown;
}

/** The operator's word that the node is gone for good: its tasks no longer run anywhere, and their slots are free. */
async function deleteNode(tx: Tx, name: string, terms: HoldTerms): Promise<Node> {
  const [leased] = await lockLeases(tx, [name]);
  if (leased === undefined) throw notFound("node", name);
  const { row } = leased;
  if (leased.leaseFresh) {
    const message = `node "${name}" still holds its lease; stop its agent (berthd) first and wait until it is shown Unknown`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "NODE_ALIVE", details: { name } });
  }
  const held = await allPages((page) => listTasks(tx, { ...page, node: name }));
  const tasks = await lockTasksByUid(
    tx,
    held.map(({ uid }) => uid),
  );
  // Its lease may have run out only now, and nobody has said yet what that makes of its tasks.
  const bound = (await fencedUntil(tx, [row], terms)).get(name);
  const boundMs = bound instanceof Date ? bound.getTime() : 0;
  const until = Math.max(boundMs, ...tasks.flatMap((row) => (row.certainty === "unreachable" && row.possiblyUntil !== null ? [row.possiblyUntil.getTime()] : []))); // prettier-ignore
  if (until > leased.now.getTime()) {
    const at = new Date(until).toISOString();
    const message = `node "${name}" possibly runs fenced tasks until ${at}, of which there must never be two; delete it after that`;
    throw new StatusError("FAILED_PRECONDITION", message, {
      reason: "NODE_POSSIBLY_RUNNING",
      details: { name, until: at },
    });
  }
  const message = `node "${name}" was deleted by an operator`;
  const patch = { desired: "Stop", phase: "Stopped", reason: "NodeDeleted", message, removed: true } as const;
  await updateTasks(
    tx,
    tasks.map((before) => ({
      before,
      patch: {
        ...patch,
        certainty: "unknown",
        possiblyUntil: null,
        nextAttemptAt: null,
        finishedAt: before.finishedAt ?? leased.now,
        deletedAt: before.deletedAt ?? leased.now,
      },
    })),
  );
  const shown = await messageOf(tx, row);
  await removeNode(tx, row);
  await insertEvents(tx, [
    {
      topic: "/nodes/delete",
      kind: "Node",
      name,
      uid: row.uid,
      reason: "Deleted",
      message: `${tasks.length} tasks freed`,
    },
  ]);
  return shown;
}

async function messageOf(tx: Tx, row: NodeRow): Promise<Node> {
  const messages = await nodeMessages(tx, [row]);
  await markNodes(tx, messages);
  return messages[0]!;
}

function eventOf(row: NodeRow, patch: NodePatch): NewEvent {
  const { name, uid } = row;
  if (patch.drain !== undefined) {
    const reason = patch.drain === null ? "DrainEnded" : "DrainAsked";
    return { topic: "/nodes/drain", kind: "Node", name, uid, node: name, reason, message: drainTerms(patch.drain) };
  }
  const about = { topic: "/nodes/update", kind: "Node", name, uid } as const;
  if (patch.cordoned !== undefined) return { ...about, reason: patch.cordoned ? "Cordoned" : "Uncordoned" };
  if (patch.taints !== undefined) {
    const message = patch.taints.length === 0 ? "no taints are left" : patch.taints.map(formatTaint).join(", ");
    return { ...about, node: name, reason: "Tainted", message };
  }
  return { ...about, reason: patch.labels === undefined ? "Updated" : "Labelled" };
}

function drainTerms(drain: NodeDrain | null): string {
  if (drain === null) return "";
  if (drain.deadline === undefined) return "without a deadline";
  const then = drain.onDeadline === "force" ? "what is left is stopped" : "it gives up";
  return `after ${durationMs(drain.deadline) / 1_000} s ${then}`;
}
