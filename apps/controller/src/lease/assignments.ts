/** A page of a node's full assignment set (D5), never larger than a message may be. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  AssignmentsReplySchema,
  ImageAssignmentSchema,
  TaskAssignmentSchema,
  type AssignmentsReply,
} from "@berth/proto";
import { assignmentPage, smallSet, type Store } from "@berth/store";

const PAGE_ITEMS = 500;
/** NATS takes 1 MiB. */
const PAGE_BYTES = 512 * 1024;

export async function readAssignments(store: Store, node: string, offset: number): Promise<AssignmentsReply> {
  // protocol: SetRead
  const whole = offset === 0 ? await smallSet(store.db, node, PAGE_ITEMS) : undefined;
  const page = whole ?? (await store.snapshot((tx) => assignmentPage(tx, node, offset, PAGE_ITEMS)));
  return cutToSize(page, offset, PAGE_BYTES);
}

/** Keeps as many items as fit, at least one; the rest is left to the next page. */
export function cutToSize(page: AssignmentsReply, offset: number, maxBytes: number): AssignmentsReply {
  let bytes = 0;
  let kept = 0;
  const fits = (itemBytes: number): boolean => {
    bytes += itemBytes;
    if (bytes > maxBytes && kept > 0) return false;
    kept += 1;
    return true;
  };
  const tasks = takeWhile(page.tasks, (task) => fits(toBinary(TaskAssignmentSchema, task).length));
  const images =
    tasks.length < page.tasks.length
      ? []
      : takeWhile(page.images, (image) => fits(toBinary(ImageAssignmentSchema, image).length));
  if (kept === page.tasks.length + page.images.length) return page;
  const { storeEpoch, revision, stopsConfirmed } = page;
  return create(AssignmentsReplySchema, {
    storeEpoch,
    revision,
    stopsConfirmed,
    tasks,
    images,
    nextOffset: offset + kept,
  });
}

function takeWhile<T>(items: readonly T[], keep: (item: T) => boolean): T[] {
  const end = items.findIndex((item) => !keep(item));
  return items.slice(0, end < 0 ? items.length : end);
}
