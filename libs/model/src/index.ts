export { chainIds } from "./chain-id.ts";
export {
  isIndexType,
  isManifestType,
  MANIFEST_LIMITS,
  parseImageConfig,
  parseManifest,
  type ManifestDocument,
} from "./manifest.ts";
export {
  MEDIA_TYPES,
  type Descriptor,
  type OciImageConfig,
  type OciIndex,
  type OciManifest,
  type Platform,
} from "./oci.ts";
export { choosePlatform, formatPlatform, hostPlatform, platformRank } from "./platform.ts";
export { formatImageReference, normaliseImage, parseImageReference, type ImageReference } from "./reference.ts";
export { closest, suggest } from "./closest.ts";
export {
  anyFilterMatches,
  filterMatches,
  parseFilter,
  type FieldOf,
  type Filter,
  type FilterOperator,
  type FilterSelector,
} from "./filter.ts";
export { FORMATS } from "./formats.ts";
export {
  CAPABILITIES,
  capabilityProblem,
  envNameProblem,
  labelKeyProblem,
  labelValueProblem,
  nameProblem,
  nodeNameProblem,
  normaliseCapability,
  pathProblem,
  signalNumber,
  signalProblem,
} from "./names.ts";
export { formatCpu, formatMemory, parseCpu, parseDisk, parseMemory } from "./quantity.ts";
export { formatSelector, parseSelector, selectorMatches, type Requirement } from "./selector.ts";
export {
  disruptionBudget,
  parseCountOrPercent,
  shareOf,
  type CountOrPercent,
  type DisruptionBudget,
  type DisruptionRule,
} from "./disruption.ts";
export * from "./placement/index.ts";
export {
  beginsAgainBy,
  decideRestart,
  FENCED_REASON,
  holdsRoom,
  RESTART_BACKOFF,
  type BeginsAgain,
  type EndedExecution,
  type RestartDecision,
  type RestartRule,
  type RoomHolder,
} from "./restart-policy.ts";
export {
  CLOCK_DRIFT,
  DEFAULT_FENCE_SLACK_MS,
  DEFAULT_STOP_GRACE_MS,
  MOST_FENCED_GRACE_MS,
  fencedBy,
  replacementSafety,
  type FencingTerms,
  type ReplacementAnswer,
  type ReplacementVerdict,
} from "./fencing.ts";
export {
  applyTaskStep,
  becomeFenced,
  becomeObserved,
  becomeUnreachable,
  hasEnded,
  isAvailable,
  isTaskStep,
  TASK_PHASES,
  TASK_STEPS,
  type Certainty,
  type ExecutionStatus,
  type TaskPhase,
  type TaskStep,
  type TaskStepEntry,
  type TaskHealth,
} from "./task-transitions.ts";
