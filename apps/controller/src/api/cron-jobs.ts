/** CronJobService: jobs by the clock. What a schedule asks for is decided elsewhere (`cron/`). Deleting takes its jobs with it. */
import { clone, create } from "@bufbuild/protobuf";
import { hasCode, StatusError, type FieldViolation } from "@berth/base";
import { selectorMatches } from "@berth/model";
import {
  CronJobSchema,
  CronJobService,
  CronJobSpecSchema,
  ListCronJobsResponseSchema,
  ListCronRunsResponseSchema,
  WatchCronJobsResponseSchema,
  type CronJob,
  type CronJobSpec,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  cronJobMessage,
  cronJobSpec,
  cronRunMessage,
  cronRunsOf,
  getCronJob,
  insertCronJob,
  insertEvents,
  listCronJobs,
  lockCronJob,
  lockCronWorkloads,
  removeCronJob,
  updateCronJob,
  updateWorkload,
  type CronJobRow,
  type Tx,
  storeTime,
} from "@berth/store";
import { runNow } from "../cron/look.ts";
import { parseSchedule } from "../cron/schedule.ts";
import { getAsOf, listAsOf } from "./as-of.ts";
import { applyResource, type ApplyDeps } from "./apply.ts";
import { storedWorkloadSpec } from "./defaults.ts";
import { allPages, listPage } from "./list.ts";
import { holdForUse } from "./namespaces.ts";
import { notFound } from "./refusals.ts";
import { appliedMetadata, namespaceScope, selectorScope } from "./scope.ts";
import { watchResources, type WatchDeps } from "./watch.ts";

const SHOWN_RUNS = 50;
const PAST = { kind: "CronJob", schema: CronJobSchema } as const;

export function cronJobService(deps: ApplyDeps & WatchDeps): Implementation {
  const { store } = deps;
  return implement(CronJobService, {
    applyCronJob: ({ cronJob, dryRun }) => applyCronJob(deps, cronJob!, dryRun),
    async getCronJob({ namespace, name, asOf }) {
      if (asOf !== undefined) return await getAsOf(store, { ...PAST, asOf, namespace, name });
      return cronJobMessage(await existing(store.db, namespace, name));
    },
    async listCronJobs({ namespace, selector, pageSize, pageToken, asOf }) {
      const query = { pageSize, pageToken, ...namespaceScope(namespace), ...selectorScope(selector) };
      if (asOf !== undefined) {
        return create(ListCronJobsResponseSchema, await listAsOf(store, { ...PAST, asOf, ...query }));
      }
      const { items, ...rest } = await listPage(store, (tx) => listCronJobs(tx, query));
      return create(ListCronJobsResponseSchema, { items: items.map(cronJobMessage), ...rest });
    },
    deleteCronJob: ({ namespace, name }) => store.transaction((tx) => deleteCronJob(tx, namespace, name)),
    async *watchCronJobs({ namespace, selector, cursor }, { signal }) {
      const scope = namespaceScope(namespace);
      const labels = selectorScope(selector);
      const list = async (tx: Tx): Promise<CronJob[]> =>
        (await allPages((page) => listCronJobs(tx, { ...page, ...scope, ...labels }))).map(cronJobMessage);
      const matches = ({ metadata }: CronJob): boolean => selectorMatches(labels.selector ?? [], metadata!.labels);
      const query = { ...PAST, cursor, ...scope, list, ...(labels.selector === undefined ? {} : { matches }) };
      for await (const { event, resource } of watchResources(deps, query, signal)) {
        yield create(WatchCronJobsResponseSchema, { event, ...(resource === undefined ? {} : { cronJob: resource }) });
      }
    },
    runCronJob: ({ namespace, name }, { principal }) =>
      store.transaction(async (tx) => {
        await holdForUse(tx, namespace);
        const row = await lockCronJob(tx, namespace, name);
        if (row === undefined) throw notFound("cron job", name, namespace);
        return cronRunMessage(await runNow(tx, row, await storeTime(tx), principal?.name ?? ""));
      }),
    async listCronRuns({ namespace, name }) {
      const { uid } = await existing(store.db, namespace, name);
      const runs = await cronRunsOf(store.db, uid, SHOWN_RUNS);
      return create(ListCronRunsResponseSchema, { items: runs.map(cronRunMessage) });
    },
  });
}

async function existing(tx: Tx, namespace: string, name: string): Promise<CronJobRow> {
  const row = await getCronJob(tx, namespace, name);
  if (row === undefined) throw notFound("cron job", name, namespace);
  return row;
}

function applyCronJob(deps: ApplyDeps, cronJob: CronJob, dryRun: boolean): Promise<CronJob> {
  const metadata = appliedMetadata(cronJob.metadata, true);
  const { namespace, name, labels } = metadata;
  const spec = storedCronJobSpec(cronJob.spec!);
  return applyResource(deps, {
    noun: "cron job",
    metadata,
    specSchema: CronJobSpecSchema,
    spec,
    dryRun,
    async lock(tx) {
      await holdForUse(tx, namespace);
      return await lockCronJob(tx, namespace, name);
    },
    specOf: (row: CronJobRow) => cronJobSpec(row),
    async insert(tx) {
      const row = await insertCronJob(tx, { namespace, name, labels }, spec, await storeTime(tx));
      await tell(tx, row, "/cronjobs/create", "Created");
      return row;
    },
    async update(tx, row, patch) {
      // A new schedule speaks of times from now on: what was due by the old one is not run by the new one.
      const now = await storeTime(tx);
      const updated = await updateCronJob(tx, row, { ...patch, lookAt: now, ...(patch.spec && { decidedUntil: now }) });
      await tell(tx, updated, "/cronjobs/update", "Updated");
      return updated;
    },
    resourceOf: (row) => cronJobMessage(row),
    preview: (shown, row) =>
      create(CronJobSchema, { metadata: shown, spec, ...(row && { status: cronJobMessage(row).status! }) }),
  });
}

/** @throws INVALID_ARGUMENT `FIELD_INVALID` */
function storedCronJobSpec(given: CronJobSpec): CronJobSpec {
  const spec = clone(CronJobSpecSchema, given);
  const violations: FieldViolation[] = [];
  try {
    parseSchedule(spec.schedule, spec.timeZone);
  } catch (error) {
    const field = /time zone/.test((error as Error).message) ? "spec.timeZone" : "spec.schedule";
    violations.push({ field, description: (error as Error).message });
  }
  if (spec.template!.job === undefined) {
    violations.push({ field: "spec.template.job", description: "is required: a run is a job; {} for the defaults" });
  }
  try {
    spec.template = storedWorkloadSpec(spec.template!);
  } catch (error) {
    if (!(error instanceof StatusError) || !hasCode(error, "INVALID_ARGUMENT")) throw error;
    violations.push(
      ...error.violations.map((each) => ({ ...each, field: each.field.replace(/^spec/, "spec.template") })),
    );
  }
  if (violations.length > 0) throw StatusError.invalid(violations);
  spec.concurrency ||= "Allow";
  return spec;
}

async function deleteCronJob(tx: Tx, namespace: string, name: string): Promise<CronJob> {
  const row = await lockCronJob(tx, namespace, name);
  if (row === undefined) throw notFound("cron job", name, namespace);
  const deletedAt = new Date();
  for (const workload of await lockCronWorkloads(tx, row.uid)) {
    if (workload.deletedAt === null) await updateWorkload(tx, workload, { deletedAt });
  }
  await removeCronJob(tx, row);
  await tell(tx, row, "/cronjobs/delete", "Deleted");
  return cronJobMessage({ ...row, deletedAt });
}

async function tell(tx: Tx, { namespace, name, uid }: CronJobRow, topic: string, reason: string): Promise<void> {
  await insertEvents(tx, [{ namespace, topic, kind: "CronJob", name, uid, reason, message: "" }]);
}
