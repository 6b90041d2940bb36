/** Tells the steps of a drill, from its record: whoever asks may come late, go, and come again to another controller. */
import { StatusError, systemClock } from "@berth/base";
import type { DrillStep } from "@berth/proto";
import { drillSteps, getDrill, type DrillRow, type Store } from "@berth/store";

const LOOK_MS = 250;

/** @param after so many steps are known. @throws NOT_FOUND */
export async function* followDrill(
  store: Store,
  { name, after }: { readonly name: string; readonly after: number },
  signal: AbortSignal,
): AsyncGenerator<DrillStep> {
  for (let told = after; ;) {
    const row = await existingDrill(store, name);
    const steps = drillSteps(row).slice(told);
    yield* steps;
    told += steps.length;
    if (row.endedAt !== null) return;
    await systemClock.sleep(LOOK_MS, signal);
  }
}

/** @throws NOT_FOUND */
export async function existingDrill(store: Store, name: string): Promise<DrillRow> {
  const row = await getDrill(store.db, name);
  if (row !== undefined) return row;
  throw new StatusError(
    "NOT_FOUND",
    `drill ${JSON.stringify(name)} does not exist, or is too long ago: berth drill list`,
  );
}
