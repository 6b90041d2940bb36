/** What the drain of a node means for its tasks now. Pure. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { drainOf, type FleetNodeRow } from "@berth/store";

/** When what has not moved is dealt with as `onDeadline` says; undefined: never. */
export function drainDeadline(row: Pick<FleetNodeRow, "drain" | "drainStartedAt">): Date | undefined {
  const deadline = drainOf(row)?.deadline;
  if (deadline === undefined || row.drainStartedAt === null) return undefined;
  return new Date(row.drainStartedAt.getTime() + durationMs(deadline));
}

/** undefined: nothing is moved, because no drain was asked for or it has given up. */
export function drainModeOf(
  row: Pick<FleetNodeRow, "drain" | "drainStartedAt">,
  now: Date,
): "moving" | "forced" | undefined {
  const drain = drainOf(row);
  if (drain === undefined) return undefined;
  const deadline = drainDeadline(row);
  if (deadline === undefined || now < deadline) return "moving";
  return drain.onDeadline === "force" ? "forced" : undefined;
}
