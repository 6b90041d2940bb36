/**
 * CampaignService: images that are to be on nodes. A changed spec begins the campaign again at its new generation, also when
 * it had ended; the reconciler does the rest.
 */
import { create } from "@bufbuild/protobuf";
import { selectorMatches } from "@berth/model";
import {
  CampaignSchema,
  CampaignService,
  CampaignSpecSchema,
  ListCampaignsResponseSchema,
  ListTargetsResponseSchema,
  WatchCampaignsResponseSchema,
  type Campaign,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  campaignMessage,
  campaignSpec,
  getCampaign,
  insertCampaign,
  insertEvents,
  listCampaigns,
  listTargets,
  lockCampaign,
  updateCampaign,
  type CampaignRow,
  type NewEvent,
  type Tx,
} from "@berth/store";
import { getAsOf, listAsOf } from "./as-of.ts";
import { applyResource, type ApplyDeps } from "./apply.ts";
import { watchProgress, type ProgressDeps } from "./campaign-progress.ts";
import { storedCampaignSpec } from "./defaults.ts";
import { allPages, listPage } from "./list.ts";
import { holdForUse } from "./namespaces.ts";
import { notFound } from "./refusals.ts";
import { appliedMetadata, namespaceScope, selectorScope } from "./scope.ts";
import { watchResources, type WatchDeps } from "./watch.ts";

const PAST = { kind: "Campaign", schema: CampaignSchema } as const;

export function campaignService(deps: ApplyDeps & WatchDeps & ProgressDeps): Implementation {
  const { store } = deps;
  return implement(CampaignService, {
    applyCampaign: ({ campaign, dryRun }) => applyCampaign(deps, campaign!, dryRun),
    async getCampaign({ namespace, name, asOf }) {
      if (asOf !== undefined) return await getAsOf(store, { ...PAST, asOf, namespace, name });
      return campaignMessage(await existing(store.db, namespace, name));
    },
    async listCampaigns({ namespace, selector, pageSize, pageToken, asOf }) {
      const query = { pageSize, pageToken, ...namespaceScope(namespace), ...selectorScope(selector) };
      if (asOf !== undefined) {
        return create(ListCampaignsResponseSchema, await listAsOf(store, { ...PAST, asOf, ...query }));
      }
      const { items, ...rest } = await listPage(store, (tx) => listCampaigns(tx, query));
      return create(ListCampaignsResponseSchema, { items: items.map(campaignMessage), ...rest });
    },
    deleteCampaign: ({ namespace, name }) => store.transaction((tx) => deleteCampaign(tx, namespace, name)),
    async *watchCampaigns({ namespace, selector, cursor }, { signal }) {
      const scope = namespaceScope(namespace);
      const labels = selectorScope(selector);
      const watch = watchResources(
        deps,
        {
          kind: "Campaign",
          schema: CampaignSchema,
          cursor,
          ...scope,
          list: async (tx) =>
            (await allPages((page) => listCampaigns(tx, { ...page, ...scope, ...labels }))).map(campaignMessage),
          ...(labels.selector === undefined
            ? {}
            : { matches: ({ metadata }: Campaign) => selectorMatches(labels.selector!, metadata!.labels) }),
        },
        signal,
      );
      for await (const { event, resource } of watch) {
        yield create(WatchCampaignsResponseSchema, { event, ...(resource && { campaign: resource }) });
      }
    },
    async listTargets({ namespace, name }) {
      const row = await existing(store.db, namespace, name);
      return create(ListTargetsResponseSchema, { items: await listTargets(store.db, row.uid) });
    },
    async *watchProgress({ namespace, name }, { signal }) {
      yield* watchProgress(deps, await existing(store.db, namespace, name), signal);
    },
  });
}

async function existing(tx: Tx, namespace: string, name: string): Promise<CampaignRow> {
  const row = await getCampaign(tx, namespace, name);
  if (row === undefined) throw notFound("campaign", name, namespace);
  return row;
}

function applyCampaign(deps: ApplyDeps, campaign: Campaign, dryRun: boolean): Promise<Campaign> {
  const metadata = appliedMetadata(campaign.metadata, true);
  const { namespace, name, labels } = metadata;
  const spec = storedCampaignSpec(campaign.spec!);
  return applyResource(deps, {
    noun: "campaign",
    metadata,
    specSchema: CampaignSpecSchema,
    spec,
    dryRun,
    async lock(tx) {
      await holdForUse(tx, namespace);
      return await lockCampaign(tx, namespace, name);
    },
    specOf: (row: CampaignRow) => campaignSpec(row),
    async insert(tx) {
      const row = await insertCampaign(tx, { namespace, name, labels, spec });
      await insertEvents(tx, [eventOf(row, "/campaigns/create", "Created")]);
      return row;
    },
    async update(tx, row, patch) {
      const updated = await updateCampaign(tx, row, patch);
      await insertEvents(tx, [eventOf(updated, "/campaigns/update", "Updated")]);
      return updated;
    },
    resourceOf: (row) => campaignMessage(row),
    preview: (shown, row) =>
      create(CampaignSchema, { metadata: shown, spec, ...(row && { status: campaignMessage(row).status! }) }),
  });
}

async function deleteCampaign(tx: Tx, namespace: string, name: string): Promise<Campaign> {
  const row = await lockCampaign(tx, namespace, name);
  if (row === undefined) throw notFound("campaign", name, namespace);
  if (row.deletedAt !== null) return campaignMessage(row);
  const updated = await updateCampaign(tx, row, { deletedAt: new Date() });
  await insertEvents(tx, [eventOf(updated, "/campaigns/delete", "Deleting")]);
  return campaignMessage(updated);
}

function eventOf(row: CampaignRow, topic: string, reason: string): NewEvent {
  const { namespace, name, uid, generation } = row;
  return { namespace, topic, kind: "Campaign", name, uid, reason, message: `generation ${generation}` };
}
