/**
 * What there is to get, describe and delete: each kind with its names, its message, its columns and its calls, so that the
 * verbs are written once.
 */
import type { MessageShape } from "@bufbuild/protobuf";
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
import { pages, past, PAGE_SIZE, watched, type Kind } from "./kind.ts";
import { UsageError } from "./exit-code.ts";
import type { Session } from "./session.ts";

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
