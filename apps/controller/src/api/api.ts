/** All services of the API, over what they need. */
import type { Implementation } from "@berth/rpc";
import type { ApplyDeps } from "./apply.ts";
import { agentUpgradeService } from "./agent-upgrades.ts";
import { campaignService } from "./campaigns.ts";
import type { ProgressDeps } from "./campaign-progress.ts";
import { cronJobService } from "./cron-jobs.ts";
import { drillService } from "./drills.ts";
import { eventService, type EventDeps } from "./events.ts";
import { healthService, type HealthDeps } from "./health.ts";
import { journalService } from "./journals.ts";
import { namespaceService } from "./namespaces.ts";
import { nodeService, type NodeDeps } from "./nodes.ts";
import { placementService, type ExplainDeps } from "./placement.ts";
import { registryMirrorService } from "./registry-mirrors.ts";
import { statusService, type StatusDeps } from "./status.ts";
import { taskService, type TaskDeps } from "./tasks.ts";
import { usageService } from "./usage.ts";
import { webhookService, type WebhookApiDeps } from "./webhooks.ts";
import { workloadService } from "./workloads.ts";

export type ApiDeps = ExplainDeps &
  ApplyDeps &
  NodeDeps &
  TaskDeps &
  ProgressDeps &
  EventDeps &
  HealthDeps &
  StatusDeps &
  WebhookApiDeps;

export function apiServices(deps: ApiDeps): Implementation[] {
  return [
    namespaceService(deps),
    nodeService(deps),
    registryMirrorService(deps),
    workloadService(deps),
    taskService(deps),
    placementService(deps),
    campaignService(deps),
    cronJobService(deps),
    eventService(deps),
    webhookService(deps),
    journalService(deps),
    healthService(deps),
    statusService(deps),
    usageService(deps),
    agentUpgradeService(deps),
    drillService(deps),
  ];
}
