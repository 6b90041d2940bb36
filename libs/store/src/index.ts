export type { AdvisoryLocks, HeldLock } from "./advisory-locks.ts";
export { assignmentPage, smallSet } from "./assignment-sets.ts";
export { announceImages, announceTasks, imageAssignment, raiseRevisions, taskAssignment } from "./assignments.ts";
export {
  deleteTargets,
  insertTargets,
  listTargets,
  lockTargets,
  targetMessage,
  targetsAt,
  targetsOf,
  updateTargets,
  type NewTarget,
  type TargetRow,
  type TargetUpdate,
} from "./campaign-targets.ts";
export {
  campaignMessage,
  campaignSpec,
  campaignStatus,
  getCampaign,
  insertCampaign,
  listCampaigns,
  lockCampaign,
  lockCampaignByUid,
  removeCampaign,
  updateCampaign,
  type CampaignRow,
} from "./campaigns.ts";
export type { Tx } from "./database.ts";
export {
  getRegistryMirror,
  insertRegistryMirror,
  listRegistryMirrors,
  lockRegistryMirror,
  mirrorsPage,
  registryMirrorMessage,
  registryMirrorOf,
  registryMirrorSpec,
  removeRegistryMirror,
  updateRegistryMirror,
  type RegistryMirrorRow,
} from "./registry-mirrors.ts";
export {
  eventJson,
  eventMessage,
  insertEvents,
  listEvents,
  listEventsBackwards,
  type EventRow,
  type NewEvent,
} from "./events.ts";
export { startChangeFeed, startEventFeed, type Feed, type FeedConfig, type FeedDeps } from "./feed/follow.ts";
export { advanceMark, currentMark, formatMark, hasSeen, parseMark, type Mark } from "./feed/mark.ts";
export {
  comparePositions,
  currentPosition,
  formatCursor,
  parseCursor,
  type FeedName,
  type Position,
} from "./feed/position.ts";
export { keepPosition, keptPosition, type KeptPosition } from "./feed/cursor.ts";
export { readChanges, readEvents, type Change, type FeedEvent, type FeedPage } from "./feed/read.ts";
export {
  OUTBOX_CHANNEL,
  parseWake,
  recordChanges,
  WORK_CHANNEL,
  type ChangeOp,
  type NewChange,
  type ResourceKind,
  type Wake,
} from "./feed/record.ts";
export { nodeWatermarks, type NodeWatermark } from "./watermarks.ts";
export { beginHistory, checkWithinHistory, objectsAt, pastScope, type PastObject, type PastQuery } from "./history.ts";
export { journalEvents, storedEpochs, type JournalEventRow, type StoredEpoch } from "./journal-audit.ts";
export {
  acknowledgeBreaks,
  addJournalEpochs,
  holdShard,
  journalStates,
  laggingJournals,
  setStored,
  type JournalMark,
  takeShard,
  type JournalState,
  type LaggingJournal,
} from "./journals.ts";
export {
  expiredNodes,
  insertNewNodes,
  lockLeases,
  markSilent,
  renewLeases,
  setConflict,
  setEvictionHolds,
  tasksOfWrongCertainty,
  type LeasedNode,
  type LeaseRenewal,
  surveyLeases,
  type LeaseSurvey,
} from "./leases.ts";
export {
  backlog,
  controllersAtWork,
  failingTasks,
  journalLags,
  stuckStops,
  taskGroups,
  unplaceableTasks,
  unreachableTasks,
  workloadCounts,
  type Backlog,
  type ControllerRow,
  type JournalLag,
  type TaskGroup,
  type Trouble,
} from "./fleet-status.ts";
export {
  failedCampaigns,
  failedJobs,
  troubledCronJobs,
  troubledRollouts,
  type CampaignTrouble,
  type CronTrouble,
  type JobTrouble,
  type RolloutTrouble,
} from "./work-troubles.ts";
export {
  drilledNodes,
  drillNews,
  runTimes,
  tasksOfWorkloads,
  tasksOnNodes,
  workloadGenerations,
  type DrilledNode,
  type DrillNews,
  type RunTimes,
} from "./drill-facts.ts";
export {
  drillMessage,
  DRILLS_CHANNEL,
  drillSteps,
  getDrill,
  insertDrill,
  listDrills,
  lockDrill,
  lockDrillUnderWay,
  writeDrill,
  type DrillRow,
  type NewDrill,
} from "./drills.ts";
export {
  getUpgrade,
  insertUpgrade,
  listUpgrades,
  lockUpgrade,
  NOT_KEPT,
  plannedUpgrade,
  UNDER_WAY,
  updateUpgrade,
  updateUpgradeNodes,
  upgradeMessage,
  upgradeNodesOf,
  upgradesAtWork,
  upgradeSpec,
  type NewUpgradeNode,
  type UpgradeNodeRow,
  type UpgradeNodeUpdate,
  type UpgradeRow,
} from "./upgrades.ts";
export {
  changedEnds,
  executionStarts,
  journalGaps,
  repeatedStarts,
  storeMark,
  type ExecutionStarts,
  type InvariantScope,
  type StoreMark,
} from "./invariants.ts";
export { type DrillBefore, type DrilledTask } from "./schema/index.ts";
export { countNodesByPhase, countTasksByPhase, countWebhooksByPhase } from "./fleet-counts.ts";
export {
  campaignLock,
  webhookLock,
  DISPATCH_LOCK,
  DRAIN_LOCK,
  UPGRADE_LOCK,
  ingestLock,
  LEASE_EXPIRY_LOCK,
  MEMBERS_LOCK,
  NEWS_LOCK,
  PLACEMENT_LOCK,
  PRUNE_LOCK,
  reconcileLock,
  type LockKey,
} from "./lock-keys.ts";
export { renewKnown, type KnownRenewal, type RenewedLease } from "./lease-renewals.ts";
export { together } from "./together.ts";
export { KeptTasks } from "./kept-tasks.ts";
export { FleetNodes, type FleetNodeRow } from "./fleet-nodes.ts";
export { getStoreMeta, type StoreMeta } from "./meta.ts";
export {
  beginStoreEpoch,
  confirmStore,
  firstGenerationAfter,
  isNamedBefore,
  isOriginal,
  lockHold,
  lockTasksOnOrNamed,
  fencedGraces,
  lockFencedOn,
  longestFencedGrace,
  numberedAfterRestore,
  releaseStore,
  setHoldings,
  tasksOutOfReach,
  wantsHoldings,
} from "./restore.ts";
export {
  countNamespaces,
  getNamespace,
  holdNamespace,
  insertNamespace,
  listNamespaces,
  lockNamespace,
  namespaceMessage,
  removeNamespace,
  updateNamespace,
  type NamespaceCounts,
  type NamespaceRow,
} from "./namespaces.ts";
export {
  allNodes,
  drainingNodes,
  getNode,
  listNodes,
  lockNode,
  lockNodes,
  nodeMessages,
  nodePhases,
  nodesByName,
  recordNodes,
  removeNode,
  setDrainStatus,
  touchNodes,
  updateNode,
  type NodePatch,
} from "./nodes.ts";
export { drainOf, drainStatusOf, hasStopper, nodeMessage, nodeSpec, type NodeRow } from "./node-message.ts";
export { nodeUsage, type NodeUsage } from "./node-usage.ts";
export { openStore, type Store, type StoreOptions } from "./open.ts";
export { addToOutbox, deleteFromOutbox, outboxDepth, takeFromOutbox, type NewJob, type OutboxJob } from "./outbox.ts";
export { makePartitions, partitionsOf, retirePartition, type Partition, type Retired } from "./partitions.ts";
export { DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, pageTokenOf, type Page, type PageRequest } from "./page.ts";
export {
  lockPlacedOn,
  nominatedTasks,
  tasksBelow,
  tryTransactionLock,
  unplacedOf,
  unplacedTasks,
  waitingTasks,
  workloadSizes,
  type PlacedRow,
  type UnplacedMark,
  type UnplacedTask,
  type WorkloadSize,
} from "./placement.ts";
export {
  getDecision,
  insertDecisions,
  pruneDecisions,
  type DecisionRow,
  type NodeTaint,
  type PlacementRecord,
  type RecordedPoints,
} from "./placement-decisions.ts";
export {
  addNodeImages,
  evictingNodes,
  nodeLoads,
  placementNodes,
  placementSpecs,
  type TaskRevision,
  removeNodeImages,
  repellingSpecs,
  selectedSpread,
  warmNodes,
  workloadSpread,
  type NodeImage,
  type NodeLoad,
  type PlacementNodeRow,
  type PlacementSpecRow,
} from "./placement-fleet.ts";
export { storeError } from "./postgres-error.ts";
export { storeTime } from "./time.ts";
export {
  campaignRefs,
  campaignsToDelete,
  namespaceIsEmpty,
  namespacesOf,
  runningCampaignRefs,
  tasksOfWorkload,
  workloadsAndTasksOf,
  workloadRefs,
  workloadsOnNode,
  workloadsToDelete,
  type ResourceRef,
} from "./reconcile.ts";
export {
  getTask,
  insertTasks,
  listTasks,
  lockTask,
  lockTasks,
  lockTasksByUid,
  removeTasks,
  updateTasks,
  type NewTask,
  type TaskRow,
  type TaskUpdate,
} from "./tasks.ts";
export { taskMessage, taskStop } from "./task-message.ts";
export type { Unwritten } from "./proto-json.ts";
export * as tables from "./schema/index.ts";
export { findToken, hasTokens, insertFirstToken, insertToken, revokeToken, type TokenRow } from "./tokens.ts";
export {
  getWorkload,
  insertWorkload,
  listWorkloads,
  lockWorkload,
  lockWorkloadAndTime,
  lockWorkloadByUid,
  removeWorkload,
  updateWorkload,
  workloadMessage,
  workloadSpec,
  workloadStatus,
  type NamespacedQuery,
  type WorkloadRow,
} from "./workloads.ts";
export { revisionMessage, revisionSpec, revisionsOf, withTemplate, type RevisionRow } from "./workload-revisions.ts";
export {
  cronJobMessage,
  cronJobSpec,
  cronRunMessage,
  cronRunsOf,
  getCronJob,
  insertCronJob,
  insertCronRun,
  listCronJobs,
  lockCronJob,
  lockCronWorkloads,
  lockDueCronJob,
  pruneCronRuns,
  removeCronJob,
  removeCronJobsOf,
  updateCronJob,
  type CronJobRow,
  type CronRunRow,
} from "./cron-jobs.ts";
export {
  countBehind,
  getWebhook,
  insertWebhook,
  listWebhooks,
  lockWebhook,
  removeWebhook,
  removeWebhooksOf,
  troubledWebhooks,
  updateWebhook,
  WEBHOOKS_CHANNEL,
  webhookMessage,
  webhookPosition,
  webhookSpec,
  type WebhookRow,
} from "./webhooks.ts";
export {
  deliveriesOf,
  deliveryMessage,
  goneBefore,
  objectFacts,
  progressWebhook,
  recordDelivery,
  takeUpWebhook,
  webhookRefs,
  type NewWebhookDelivery,
  type ObjectFacts,
  type WebhookDeliveryRow,
  type WebhookProgress,
} from "./webhook-sending.ts";
