/**
 * "When is replacement safe?", for a node: of all its tasks, in groups of the same answer and rule. Pure. The answers are the
 * controller's (`status.replacement` of each task); a task of a node that is heard is not spoken of, for it is not lost (D6).
 */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Node, Task } from "@berth/proto";
import { formatTime } from "./units.ts";

const MOST_NAMED = 4;
const ORDER = ["safe", "later", "unsafe"];

interface Answer {
  readonly verdict: string;
  /** Of the last of them. */
  readonly at: Date | undefined;
  readonly why: string;
  readonly tasks: readonly Task[];
}

export function replacementLines({ metadata, status }: Node, tasks: readonly Task[]): string[] {
  const name = metadata?.name ?? "";
  if (status?.phase !== "Unknown") return [`${name} is heard: its tasks are what it says, and none is lost`];
  const lost = status.conditions.find(({ type }) => type === "LeaseHeld");
  const since = `${name} is silent since ${formatTime(lost?.changedAt)}; last heard ${formatTime(status.leaseRenewedAt)}`;
  const held = status.conditions.find(({ type, status: holds }) => type === "EvictionHeld" && holds === "True");
  const open = tasks.filter((task) => ["unreachable", "fenced"].includes(task.status?.certainty ?? ""));
  return [
    since,
    ...(held === undefined ? [] : [`held (${held.reason}): ${held.message}`]),
    ...(open.length === 0 ? ["nothing possibly runs there"] : answersOf(open).map(lineOf)),
  ];
}

function answersOf(tasks: readonly Task[]): Answer[] {
  const key = ({ status }: Task): string => `${status?.replacement?.verdict}\n${status?.replacement?.why}`;
  const groups = [...Map.groupBy(tasks, key).values()].map((group): Answer => {
    const { verdict = "unsafe", why = "" } = group[0]!.status?.replacement ?? {};
    const times = group.flatMap(({ status }) => (status?.replacement?.at === undefined ? [] : [timestampDate(status.replacement.at).getTime()])); // prettier-ignore
    return { verdict, why, tasks: group, at: times.length === 0 ? undefined : new Date(Math.max(...times)) };
  });
  return groups.sort((a, b) => ORDER.indexOf(a.verdict) - ORDER.indexOf(b.verdict));
}

function lineOf({ verdict, at, why, tasks }: Answer): string {
  const time = at === undefined ? "" : ` (T = ${at.toISOString()})`;
  const word = verdict === "safe" ? `may be replaced now${time}` : verdict === "later" ? `may be replaced after T = ${at?.toISOString() ?? "?"}` : "may not be replaced"; // prettier-ignore
  const names = tasks.slice(0, MOST_NAMED).map(({ metadata }) => `${metadata?.namespace}/${metadata?.name}`);
  const more = tasks.length > names.length ? `, + ${tasks.length - names.length} more` : "";
  return `${tasks.length} ${tasks.length === 1 ? "task" : "tasks"} ${word}: ${why}: ${names.join(", ")}${more}`;
}
