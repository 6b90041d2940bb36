/**
 * What there is to get, describe and delete: each kind with its names, its message, its columns and its calls, so that the
 * verbs are written once.
 */
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import {
  CampaignSchema,
  CampaignService,
  CronJobSchema,
  CronJobService,
  NamespaceSchema,
  NamespaceService,
  NodeSchema,
  NodeService,
  RegistryMirrorSchema,
  RegistryMirrorService,
  TaskSchema,
  TaskService,
  WebhookSchema,
  WebhookService,
  WorkloadSchema,
  WorkloadService,
  WatchEventSchema,
  type Metadata,
  type Watermark,
  type WatchEvent,
} from "@berth/proto";
import { hasCode, StatusError } from "@berth/base";
import { closest } from "@berth/model";
import {
  campaignColumns,
  cronJobColumns,
  mirrorColumns,
  namespaceColumns,
  nodeColumns,
  taskColumns,
  webhookColumns,
  workloadColumns,
} from "./output/columns.ts";
import type { Column } from "@berth/base/terminal";
import { UsageError } from "./exit-code.ts";
import type { Session } from "./session.ts";

export interface Listing<T> {
  readonly items: readonly T[];
  readonly cursor: string;
  /** Of the page whose nodes are furthest behind. */
  readonly watermark?: Watermark | undefined;
}

export interface ListQuery {
  /** `-` for all. */
  readonly namespace: string;
  readonly selector: string;
  readonly workload?: string;
  readonly node?: string;
  /** As they were then. */
  readonly asOf?: Timestamp;
}

export interface Watched<T> {
  readonly event: WatchEvent;
  /** Absent at the end of the snapshot that a watch without a cursor begins with. */
  readonly object: T | undefined;
}

/** A change of an object, as it is told to people. */
export interface Change<T> {
  readonly event: WatchEvent;
  readonly object: T;
}

export type Resource = { metadata?: Metadata | undefined };

/** One kind of resource, as the verbs use it. */
export interface Kind<T extends Resource = Resource> {
  readonly kind: string;
  readonly plural: string;
  readonly aliases: readonly string[];
  readonly namespaced: boolean;
  readonly schema: DescMessage;
  readonly columns: (now: () => number) => readonly Column<T>[];
  list(session: Session, query: ListQuery): Promise<Listing<T>>;
  /** Absent where nothing of the past is kept. */
  readonly past?: true;
  get(session: Session, namespace: string, name: string, asOf?: Timestamp): Promise<T>;
  watch?(session: Session, query: ListQuery, cursor: string): AsyncIterable<Watched<T>>;
  /** Absent where users do not delete. */
  delete?(session: Session, namespace: string, name: string): Promise<T>;
  /** Absent where users do not apply. */
  apply?(session: Session, object: T, options: { readonly dryRun: boolean; readonly cause?: string }): Promise<T>;
  /** What the answer to an apply tells besides, and no other does. */
  remark?(applied: T): string | undefined;
}

const PAGE_SIZE = 500;

const past = (asOf: Timestamp | undefined): { asOf?: Timestamp } => (asOf === undefined ? {} : { asOf });

/** Reads every page; the cursor is the first page's, so that a watch from it misses nothing. */
async function pages<T>(
  fetch: (
    pageToken: string,
  ) => Promise<{ items: T[]; nextPageToken: string; cursor?: string; watermark?: Watermark | undefined }>,
): Promise<Listing<T>> {
  const items: T[] = [];
  let cursor: string | undefined;
  let watermark: Watermark | undefined;
  for (let token = ""; ;) {
    const page = await fetch(token);
    items.push(...page.items);
    cursor ??= page.cursor ?? "";
    watermark = older(watermark, page.watermark);
    if (page.nextPageToken === "") return { items, cursor, watermark };
    token = page.nextPageToken;
  }
}

function older(a: Watermark | undefined, b: Watermark | undefined): Watermark | undefined {
  if (a?.observedUntil === undefined || b?.observedUntil === undefined) return a ?? b;
  return timestampMs(b.observedUntil) < timestampMs(a.observedUntil) ? b : a;
}

async function* watched<R extends { event?: WatchEvent | undefined }, T>(
  stream: AsyncIterable<R>,
  pick: (response: R) => T | undefined,
): AsyncIterable<Watched<T>> {
  for await (const response of stream) {
    yield { event: response.event ?? create(WatchEventSchema), object: pick(response) };
  }
}

const workload: Kind<MessageShape<typeof WorkloadSchema>> = {
  kind: "Workload",
  plural: "workloads",
  aliases: ["workload", "wl"],
  namespaced: true,
  past: true,
  schema: WorkloadSchema,
  columns: workloadColumns,
  async list(session, { namespace, selector, asOf }) {
    const client = session.client(WorkloadService);
    return await pages((pageToken) =>
      client.listWorkloads({ namespace, selector, pageSize: PAGE_SIZE, pageToken, ...past(asOf) }),
    );
  },
  async get(session, namespace, name, asOf) {
    return session.client(WorkloadService).getWorkload({ namespace, name, ...past(asOf) });
  },
  async *watch(session, { namespace, selector }, cursor) {
    const client = session.client(WorkloadService);
    const stream = client.watchWorkloads({ namespace, selector, cursor }, { signal: session.signal });
    yield* watched(stream, (response) => response.workload);
  },
  async delete(session, namespace, name) {
    return session.client(WorkloadService).deleteWorkload({ namespace, name });
  },
  async apply(session, object, { dryRun, cause = "" }) {
    return session.client(WorkloadService).applyWorkload({ workload: object, dryRun, cause });
  },
};

const task: Kind<MessageShape<typeof TaskSchema>> = {
  kind: "Task",
  plural: "tasks",
  aliases: ["task", "t"],
  namespaced: true,
  past: true,
  schema: TaskSchema,
  columns: taskColumns,
  async list(session, { namespace, selector, workload: owner = "", node: host = "", asOf }) {
    const client = session.client(TaskService);
    return await pages((pageToken) =>
      client.listTasks({
        namespace,
        selector,
        workload: owner,
        node: host,
        pageSize: PAGE_SIZE,
        pageToken,
        ...past(asOf),
      }),
    );
  },
  async get(session, namespace, name, asOf) {
    return session.client(TaskService).getTask({ namespace, name, ...past(asOf) });
  },
  async *watch(session, { namespace, selector, workload: owner = "", node: host = "" }, cursor) {
    const client = session.client(TaskService);
    const request = { namespace, selector, workload: owner, node: host, cursor };
    yield* watched(client.watchTasks(request, { signal: session.signal }), (response) => response.task);
  },
};

const campaign: Kind<MessageShape<typeof CampaignSchema>> = {
  kind: "Campaign",
  plural: "campaigns",
  aliases: ["campaign", "cp"],
  namespaced: true,
  past: true,
  schema: CampaignSchema,
  columns: campaignColumns,
  async list(session, { namespace, selector, asOf }) {
    const client = session.client(CampaignService);
    return await pages((pageToken) =>
      client.listCampaigns({ namespace, selector, pageSize: PAGE_SIZE, pageToken, ...past(asOf) }),
    );
  },
  async get(session, namespace, name, asOf) {
    return session.client(CampaignService).getCampaign({ namespace, name, ...past(asOf) });
  },
  async *watch(session, { namespace, selector }, cursor) {
    const client = session.client(CampaignService);
    const stream = client.watchCampaigns({ namespace, selector, cursor }, { signal: session.signal });
    yield* watched(stream, (response) => response.campaign);
  },
  async delete(session, namespace, name) {
    return session.client(CampaignService).deleteCampaign({ namespace, name });
  },
  async apply(session, object, { dryRun }) {
    return session.client(CampaignService).applyCampaign({ campaign: object, dryRun });
  },
};

const node: Kind<MessageShape<typeof NodeSchema>> = {
  kind: "Node",
  plural: "nodes",
  aliases: ["node", "no"],
  namespaced: false,
  past: true,
  schema: NodeSchema,
  columns: nodeColumns,
  async list(session, { selector, asOf }) {
    const client = session.client(NodeService);
    return await pages((pageToken) => client.listNodes({ selector, pageSize: PAGE_SIZE, pageToken, ...past(asOf) }));
  },
  async get(session, _namespace, name, asOf) {
    return session.client(NodeService).getNode({ name, ...past(asOf) });
  },
  async *watch(session, { selector }, cursor) {
    const client = session.client(NodeService);
    yield* watched(client.watchNodes({ selector, cursor }, { signal: session.signal }), (response) => response.node);
  },
  async delete(session, _namespace, name) {
    return session.client(NodeService).deleteNode({ name });
  },
  async apply(session, object, { dryRun }) {
    return session.client(NodeService).applyNode({ node: object, dryRun });
  },
};

const namespace: Kind<MessageShape<typeof NamespaceSchema>> = {
  kind: "Namespace",
  plural: "namespaces",
  aliases: ["namespace", "ns"],
  namespaced: false,
  past: true,
  schema: NamespaceSchema,
  columns: namespaceColumns,
  async list(session, { selector, asOf }) {
    const client = session.client(NamespaceService);
    return await pages((pageToken) =>
      client.listNamespaces({ selector, pageSize: PAGE_SIZE, pageToken, ...past(asOf) }),
    );
  },
  async get(session, _namespace, name, asOf) {
    return session.client(NamespaceService).getNamespace({ name, ...past(asOf) });
  },
  async delete(session, _namespace, name) {
    return session.client(NamespaceService).deleteNamespace({ name });
  },
  async apply(session, object, { dryRun }) {
    return session.client(NamespaceService).applyNamespace({ namespace: object, dryRun });
  },
};

const registryMirror: Kind<MessageShape<typeof RegistryMirrorSchema>> = {
  kind: "RegistryMirror",
  plural: "registrymirrors",
  aliases: ["registrymirror", "mirrors", "mirror"],
  namespaced: false,
  schema: RegistryMirrorSchema,
  columns: mirrorColumns,
  async list(session, { selector }) {
    const client = session.client(RegistryMirrorService);
    return await pages((pageToken) => client.listRegistryMirrors({ selector, pageSize: PAGE_SIZE, pageToken }));
  },
  async get(session, _namespace, name) {
    return session.client(RegistryMirrorService).getRegistryMirror({ name });
  },
  async delete(session, _namespace, name) {
    return session.client(RegistryMirrorService).deleteRegistryMirror({ name });
  },
  async apply(session, object, { dryRun }) {
    return session.client(RegistryMirrorService).applyRegistryMirror({ mirror: object, dryRun });
  },
};

const cronJob: Kind<MessageShape<typeof CronJobSchema>> = {
  kind: "CronJob",
  plural: "cronjobs",
  aliases: ["cronjob", "cj"],
  namespaced: true,
  past: true,
  schema: CronJobSchema,
  columns: cronJobColumns,
  async list(session, { namespace, selector, asOf }) {
    const client = session.client(CronJobService);
    return await pages((pageToken) =>
      client.listCronJobs({ namespace, selector, pageSize: PAGE_SIZE, pageToken, ...past(asOf) }),
    );
  },
  async get(session, namespace, name, asOf) {
    return session.client(CronJobService).getCronJob({ namespace, name, ...past(asOf) });
  },
  async *watch(session, { namespace, selector }, cursor) {
    const client = session.client(CronJobService);
    const stream = client.watchCronJobs({ namespace, selector, cursor }, { signal: session.signal });
    yield* watched(stream, (response) => response.cronJob);
  },
  async delete(session, namespace, name) {
    return session.client(CronJobService).deleteCronJob({ namespace, name });
  },
  async apply(session, object, { dryRun }) {
    return session.client(CronJobService).applyCronJob({ cronJob: object, dryRun });
  },
};

const webhook: Kind<MessageShape<typeof WebhookSchema>> = {
  kind: "Webhook",
  plural: "webhooks",
  aliases: ["webhook", "wh"],
  namespaced: true,
  schema: WebhookSchema,
  columns: webhookColumns,
  async list(session, { namespace, selector }) {
    const client = session.client(WebhookService);
    return await pages((pageToken) => client.listWebhooks({ namespace, selector, pageSize: PAGE_SIZE, pageToken }));
  },
  async get(session, namespace, name) {
    return session.client(WebhookService).getWebhook({ namespace, name });
  },
  async delete(session, namespace, name) {
    return session.client(WebhookService).deleteWebhook({ namespace, name });
  },
  async apply(session, object, { dryRun }) {
    return session.client(WebhookService).applyWebhook({ webhook: object, dryRun });
  },
  remark: ({ status }) =>
    status === undefined || status.secret === "" ? undefined : `its secret, told only now: ${status.secret}`,
};

/** In the order in which a manifest's resources are applied: owners first. */
export const KINDS = [
  namespace,
  node,
  registryMirror,
  webhook,
  campaign,
  workload,
  cronJob,
  task,
] as unknown as readonly Kind[];
export const workloadKind = workload;
export const taskKind = task;
export const nodeKind = node;
export const namespaceKind = namespace;
export const campaignKind = campaign;

/** @throws UsageError that names the nearest kind. */
export function kindByName(name: string): Kind {
  const wanted = name.toLowerCase();
  const found = KINDS.find((kind) => kind.plural === wanted || kind.aliases.includes(wanted));
  if (found !== undefined) return found;
  const plurals = KINDS.map((kind) => kind.plural);
  if (name === "") throw new UsageError(`name a kind: ${plurals.join(", ")}`);
  const near = closest(
    wanted,
    KINDS.flatMap((kind) => [kind.plural, ...kind.aliases]),
  );
  const hint = near === undefined ? `; known: ${plurals.join(", ")}` : `; did you mean ${JSON.stringify(near)}?`;
  throw new UsageError(`${JSON.stringify(name)} is no kind of resource${hint}`);
}

/**
 * For commands that make, where `apply` would change what is there. Somebody else's making in the same instant is not seen.
 * @throws ALREADY_EXISTS
 */
export async function refuseExisting(session: Session, kind: Kind, namespace: string, name: string): Promise<void> {
  try {
    await kind.get(session, namespace, name);
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return;
    throw error;
  }
  const where = kind.namespaced ? ` in namespace "${namespace}"` : "";
  const message = `${kind.kind.toLowerCase()} "${name}" exists already${where}; change it with berth apply`;
  throw new StatusError("ALREADY_EXISTS", message);
}

/** `workload/web`, or `workload web`. */
export function parseTarget(args: readonly string[]): { kind: Kind; names: readonly string[] } {
  const [first = "", ...rest] = args;
  const slash = first.indexOf("/");
  if (slash < 0) return { kind: kindByName(first), names: rest };
  const kind = kindByName(first.slice(0, slash));
  const names = args.map((arg) => {
    const at = arg.indexOf("/");
    if (at >= 0 && kindByName(arg.slice(0, at)) !== kind) throw new UsageError("name resources of one kind at a time");
    return at < 0 ? arg : arg.slice(at + 1);
  });
  return { kind, names };
}
