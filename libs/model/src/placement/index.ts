/** Placement: which node a task goes to, why, and what must go to make room. Pure. */
export { ANYWHERE, type Affinity, type NodeTerm, type PlacementRules, type PlacementTask, type SpreadRule, type TaskTerm, type Weighted } from "./ask.ts"; // prettier-ignore
export { PlacementBatch, unitsOf, type PlacementDecision, type PlacementFleet, type PlacementUnit } from "./batch.ts";
export type { ClassReport } from "./class-index.ts";
export { admits, MISFIT_KINDS, type Misfit, type MisfitKind } from "./filter.ts";
export { LABEL_OPERATORS, requirementProblem, type LabelOperator, type LabelRequirement } from "./label-requirement.ts";
export { makeRoom, type Nomination, type PlacedTask, type RoomInput } from "./make-room.ts";
export type { PlacementNode } from "./node.ts";
export { describeMisfit, groupMisfits, type MisfitGroup } from "./reason.ts";
export { totalOf, type ScoreParts, type WarmNodes } from "./score.ts";
export { CORDONED, effectiveTaints, formatTaint, isTolerated, leaveByMs, TAINT_EFFECTS, UNREACHABLE, type Taint, type TaintEffect, type Toleration } from "./taints.ts"; // prettier-ignore
export { NOTHING_PLACED, termKey, type PlacedCounts, type Repeller } from "./topology.ts";
export type { TaskClass } from "./task-class.ts";
export { judgeNodes, type NodeVerdict, type Verdicts } from "./verdicts.ts";
