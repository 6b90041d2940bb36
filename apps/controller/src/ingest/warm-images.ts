/**
 * Which images nodes have, learnt from what their journals say anyway: a task that is being created has its image, one that
 * pulls had to, a campaign's image is present or removed. A node may collect an image without saying so; then the next task
 * that pulls it there tells. Placement only prefers warm nodes, so a wrong guess costs a pull and nothing else.
 */
import { normaliseImage } from "@berth/model";
import { addNodeImages, removeNodeImages, type NodeImage, type TaskRow, type Tx } from "@berth/store";
import type { PlacedEntry } from "./entries.ts";

export async function noteImages(
  tx: Tx,
  entries: readonly PlacedEntry[],
  tasks: ReadonlyMap<string, TaskRow>,
): Promise<void> {
  const newest = new Map<string, NodeImage & { readonly present: boolean }>();
  for (const placed of entries) {
    const said = imageSaid(placed, tasks);
    if (said !== undefined) newest.set(`${placed.node} ${said.image}`, { node: placed.node, ...said });
  }
  const all = [...newest.values()];
  await removeNodeImages(tx, all.filter(({ present }) => !present)); // prettier-ignore
  await addNodeImages(tx, all.filter(({ present }) => present)); // prettier-ignore
}

function imageSaid(
  { node, entry: { body } }: PlacedEntry,
  tasks: ReadonlyMap<string, TaskRow>,
): { readonly image: string; readonly present: boolean } | undefined {
  if (body.case === "image") {
    const { image, step } = body.value;
    if (step === "present" || step === "removed") return { image: imageKey(image), present: step === "present" };
  }
  if (body.case !== "task") return undefined;
  const { taskUid, step, imageDigest } = body.value;
  const row = tasks.get(taskUid);
  if (row === undefined || row.node !== node) return undefined;
  const image = imageKey((row.container as { image?: string }).image ?? "");
  if (step === "pulling") return { image, present: false };
  return step === "creating" && imageDigest !== "" ? { image, present: true } : undefined;
}

/** One spelling for all; what does not parse stands for itself. */
export function imageKey(image: string): string {
  try {
    return normaliseImage(image);
  } catch {
    return image;
  }
}
