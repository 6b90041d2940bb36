/** Steps of drills: how they are made, and written together with the event that tells each of them. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { DrillStepSchema, type DrillStep } from "@berth/proto";
import { insertEvents, writeDrill, type DrilledTask, type DrillRow, type NewEvent, type Tx } from "@berth/store";

export function makeStep(
  at: Date,
  drill: string,
  name: string,
  message: string,
  more: MessageInitShape<typeof DrillStepSchema> = {},
): DrillStep {
  return create(DrillStepSchema, { ...more, at: timestampFromDate(at), drill, step: name, message });
}

/** Of a row that this transaction has locked. */
export async function writeSteps(tx: Tx, row: DrillRow, written: Parameters<typeof writeDrill>[2]): Promise<void> {
  await writeDrill(tx, row, written);
  if (written.steps.length > 0) await insertEvents(tx, written.steps.map(eventOf)); // prettier-ignore
}

const TOPICS: Readonly<Partial<Record<string, string>>> = { Started: "start", Ended: "end" };

function eventOf({ drill, step, message, nodes, report }: DrillStep): NewEvent {
  const verdict = report?.verdict ?? "";
  return {
    topic: `/drills/${TOPICS[step] ?? step.toLowerCase()}`,
    kind: "Fleet",
    name: drill,
    node: nodes.length === 1 ? nodes[0]! : "",
    severity: verdict === "Failed" ? "Warning" : "Normal",
    reason: `Drill${step}`,
    message,
    attributes: verdict === "" ? {} : { verdict },
  };
}

export const nameOf = ({ namespace, name }: Pick<DrilledTask, "namespace" | "name">): string => `${namespace}/${name}`;
export const workloadsOf = (tasks: readonly DrilledTask[]): string[] => [
  ...new Set(tasks.map((each) => each.workloadUid)),
];
