/**
 * Taints keep tasks off a node unless they tolerate them. What an operator set and what the controller sees of the node
 * (silent, not ready, cordoned, a condition) come as one list, so that tolerations govern all of it.
 *
 * A condition's taint is NoSchedule: what becomes of the tasks of a silent node is `onNodeLoss`'s business, never a taint's
 * (D6: silence is not failure).
 */

export const TAINT_EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"] as const;
export type TaintEffect = (typeof TAINT_EFFECTS)[number];

export interface Taint {
  readonly key: string;
  readonly value: string;
  readonly effect: TaintEffect;
}

export interface Toleration {
  /** Empty: every key (with Exists). */
  readonly key: string;
  readonly operator: "Equal" | "Exists";
  readonly value: string;
  /** Empty: every effect. */
  readonly effect: TaintEffect | "";
  /** How long a NoExecute taint is borne; undefined: for ever. */
  readonly seconds: number | undefined;
}

export const CORDONED: Taint = { key: "berth.io/cordoned", value: "", effect: "NoSchedule" };
export const NOT_READY: Taint = { key: "berth.io/not-ready", value: "", effect: "NoSchedule" };
export const UNREACHABLE: Taint = { key: "berth.io/unreachable", value: "", effect: "NoSchedule" };

/** Of an agent's conditions: those that are True and mean trouble, `DiskPressure` → `berth.io/disk-pressure`. */
const TROUBLES = new Set(["DiskPressure", "MemoryPressure", "PIDPressure", "JournalFull", "NetworkUnavailable"]);

export interface TaintedNode {
  /** Ready, NotReady or Unknown. */
  readonly phase: string;
  readonly cordoned: boolean;
  readonly taints: readonly Taint[];
  readonly conditions: readonly { readonly type?: unknown; readonly status?: unknown }[];
}

/** The operator's taints, and those that follow from the node's state. */
export function effectiveTaints(node: TaintedNode): Taint[] {
  const out = [...node.taints];
  if (node.cordoned) out.push(CORDONED);
  if (node.phase === "Unknown") out.push(UNREACHABLE);
  else if (node.phase !== "Ready") out.push(NOT_READY);
  for (const { type, status } of node.conditions) {
    if (typeof type === "string" && status === "True" && TROUBLES.has(type)) out.push(conditionTaint(type));
  }
  return out;
}

export function conditionTaint(type: string): Taint {
  const words = type.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "-").toLowerCase();
  return { key: `berth.io/${words}`, value: "", effect: "NoSchedule" };
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect !== "" && toleration.effect !== taint.effect) return false;
  if (toleration.key !== "" && toleration.key !== taint.key) return false;
  return toleration.operator === "Exists" || toleration.value === taint.value;
}

export function isTolerated(taint: Taint, tolerations: readonly Toleration[]): boolean {
  return tolerations.some((toleration) => tolerates(toleration, taint));
}

/** When a task must have left a node with these taints, in the clock of `addedAtMs`; undefined: it may stay. */
export function leaveByMs(
  taints: readonly (Taint & { readonly addedAtMs: number })[],
  tolerations: readonly Toleration[],
): number | undefined {
  let earliest: number | undefined;
  for (const taint of taints) {
    if (taint.effect !== "NoExecute") continue;
    const matching = tolerations.filter((toleration) => tolerates(toleration, taint));
    if (matching.some(({ seconds }) => seconds === undefined)) continue;
    const borne = matching.reduce((most, { seconds }) => Math.max(most, seconds!), 0);
    const due = taint.addedAtMs + borne * 1_000;
    if (earliest === undefined || due < earliest) earliest = due;
  }
  return earliest;
}

/** `gpu=yes:NoSchedule`, `broken:NoExecute`. */
export function formatTaint({ key, value, effect }: Taint): string {
  return `${key}${value === "" ? "" : `=${value}`}:${effect}`;
}
