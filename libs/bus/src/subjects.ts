/**
 * Every subject that controllers and agents use, in one place, with what travels on it (proto/berth/v1/agent.proto).
 *
 * The node in a subject is proven by the broker's permissions ({@link agentPermissions}, D8); a node in a message is only
 * what its sender says. Handlers compare the two.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import {
  AgentUpgradeStateSchema,
  AssignmentsReplySchema,
  AssignmentsRequestSchema,
  DrillOrderReplySchema,
  DrillOrderSchema,
  HoldingsReplySchema,
  HoldingsRequestSchema,
  JournalBatchSchema,
  JournalFetchRequestSchema,
  LeaseReplySchema,
  LeaseRequestSchema,
  MirrorsReplySchema,
  MirrorsRequestSchema,
  StreamOpenReplySchema,
  StreamOpenSchema,
  UsageReplySchema,
  UpgradeAgentRequestSchema,
  UsageRequestSchema,
} from "@berth/proto";

/** One kind of request: where it goes and what is said. */
export interface Endpoint<Request extends DescMessage, Reply extends DescMessage> {
  readonly name: string;
  readonly subject: (node: string) => string;
  /** Which token of the subject is the node. */
  readonly nodeToken: number;
  readonly request: Request;
  readonly reply: Reply;
  /** Fields that every request says anew; the others are facts, which are the same as a rule (`facts-and-news.ts`). */
  readonly news?: readonly (keyof MessageShape<Request>)[];
}

export const leaseEndpoint = {
  name: "lease",
  subject: (node: string) => `lease.${token(node)}`,
  nodeToken: 1,
  request: LeaseRequestSchema,
  reply: LeaseReplySchema,
  news: ["journalHeadSeq", "storeEpoch", "appliedRevision", "takenRevision", "sentAt"],
} satisfies Endpoint<typeof LeaseRequestSchema, typeof LeaseReplySchema>;

export const assignmentsEndpoint = {
  name: "assignments",
  subject: (node: string) => `assignments.${token(node)}`,
  nodeToken: 1,
  request: AssignmentsRequestSchema,
  reply: AssignmentsReplySchema,
} satisfies Endpoint<typeof AssignmentsRequestSchema, typeof AssignmentsReplySchema>;

export const mirrorsEndpoint = {
  name: "mirrors",
  subject: (node: string) => `mirrors.${token(node)}`,
  nodeToken: 1,
  request: MirrorsRequestSchema,
  reply: MirrorsReplySchema,
} satisfies Endpoint<typeof MirrorsRequestSchema, typeof MirrorsReplySchema>;

export const holdingsEndpoint = {
  name: "holdings",
  subject: (node: string) => `holdings.${token(node)}`,
  nodeToken: 1,
  request: HoldingsRequestSchema,
  reply: HoldingsReplySchema,
} satisfies Endpoint<typeof HoldingsRequestSchema, typeof HoldingsReplySchema>;

export const journalFetchEndpoint = {
  name: "journal fetch",
  subject: (node: string) => `node.${token(node)}.journal`,
  nodeToken: 1,
  request: JournalFetchRequestSchema,
  reply: JournalBatchSchema,
} satisfies Endpoint<typeof JournalFetchRequestSchema, typeof JournalBatchSchema>;

export const streamOpenEndpoint = {
  name: "stream open",
  subject: (node: string) => `node.${token(node)}.stream`,
  nodeToken: 1,
  request: StreamOpenSchema,
  reply: StreamOpenReplySchema,
} satisfies Endpoint<typeof StreamOpenSchema, typeof StreamOpenReplySchema>;

export const usageEndpoint = {
  name: "usage",
  subject: (node: string) => `node.${token(node)}.usage`,
  nodeToken: 1,
  request: UsageRequestSchema,
  reply: UsageReplySchema,
} satisfies Endpoint<typeof UsageRequestSchema, typeof UsageReplySchema>;

export const agentUpgradeEndpoint = {
  name: "agent upgrade",
  subject: (node: string) => `node.${token(node)}.upgrade`,
  nodeToken: 1,
  request: UpgradeAgentRequestSchema,
  reply: AgentUpgradeStateSchema,
} satisfies Endpoint<typeof UpgradeAgentRequestSchema, typeof AgentUpgradeStateSchema>;

export const drillEndpoint = {
  name: "drill",
  subject: (node: string) => `node.${token(node)}.drill`,
  nodeToken: 1,
  request: DrillOrderSchema,
  reply: DrillOrderReplySchema,
} satisfies Endpoint<typeof DrillOrderSchema, typeof DrillOrderReplySchema>;

export function progressSubject(node: string): string {
  return `progress.${token(node)}`;
}

export function journalSubject(shard: number | "*", node: string): string {
  return `ev.${shard}.${token(node)}`;
}

/**
 * Where a stored event is published: `events.shop.tasks.exit`; of the cluster's own: `events._cluster.nodes.join`. Whoever may
 * subscribe to `events.<namespace>.>` hears of that namespace and of nothing else.
 */
export function eventSubject(namespace: string, topic: string): string {
  const words = [namespace || "_cluster", ...topic.split("/").filter((word) => word !== "")];
  return ["events", ...words.map((word) => word.replaceAll(/[^A-Za-z0-9_-]/g, "_"))].join(".");
}

/** Frames of one stream, away from the agent (`up`) or towards it (`down`). */
export function streamSubject(node: string, stream: string, direction: "up" | "down"): string {
  return `st.${token(node)}.${token(stream)}.${direction}`;
}

/** The node of `ev.<shard>.<node>` and `progress.<node>`. */
export function nodeOfSubject(subject: string): string {
  return subject.slice(subject.lastIndexOf(".") + 1);
}

/** The prefix under which an agent waits for replies; a node may subscribe to its own only. */
export function agentInboxPrefix(node: string): string {
  return `_INBOX_${token(node)}`;
}

/** A subject token of its own: no node's prefix can match it. */
export const controllerInboxPrefix = "_INBOX.controller";

/** What a node's NATS user may do, in the words of nats-server's configuration (D8). */
export function agentPermissions(node: string): {
  readonly publish: { readonly allow: readonly string[] };
  readonly subscribe: { readonly allow: readonly string[] };
  readonly allow_responses: { readonly max: number; readonly expires: string };
} {
  return {
    publish: {
      allow: [
        leaseEndpoint.subject(node),
        assignmentsEndpoint.subject(node),
        mirrorsEndpoint.subject(node),
        holdingsEndpoint.subject(node),
        progressSubject(node),
        journalSubject("*", node),
        `st.${token(node)}.*.up`,
      ],
    },
    subscribe: { allow: [`node.${token(node)}.>`, `st.${token(node)}.*.down`, `${agentInboxPrefix(node)}.>`] },
    allow_responses: { max: 1, expires: "1m" },
  };
}

/** `*` passes: it stands for every node in a controller's subscription. */
function token(text: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(text) || text === "*") return text;
  throw new StatusError("INVALID_ARGUMENT", `name ${JSON.stringify(text)} cannot be part of a subject`, {
    reason: "SUBJECT_INVALID",
  });
}
