/**
 * What the next request of a webhook carries, and under which id.
 *
 * Invariant: the id follows from what is sent, and is the same at every attempt and in every controller. Of one event it is the
 * event's; of a batch its first and last event's, and where the batch ends is kept before it is first sent, so that whoever takes
 * over makes the same one of what may have become more meanwhile.
 */
import { uuidv7 } from "@berth/base";
import { comparePositions, type FeedEvent, type Position, type WebhookRow } from "@berth/store";
import { cloudEvent, messageOf, ownCloudEvent, type Message } from "./cloud-event.ts";

export interface Delivery {
  readonly id: string;
  readonly message: Message;
  readonly events: number;
}

/** A webhook as its messages name it. */
export interface Origin {
  readonly row: WebhookRow;
  readonly storeEpoch: string;
  /** At most so many events in one. */
  readonly batch: number;
}

/** What the next request holds: as much as a batch, or up to where the batch that was begun ended. */
export function nextChunk({ row, batch }: Origin, events: readonly FeedEvent[]): readonly FeedEvent[] {
  if (row.batchXid === null || row.batchEventId === null) return events.slice(0, batch);
  const begun: Position = { xid: BigInt(row.batchXid), id: row.batchEventId };
  const end = events.findLastIndex(({ position }) => comparePositions(position, begun) <= 0);
  return end < 0 ? events.slice(0, batch) : events.slice(0, end + 1);
}

export function eventsDelivery({ row, storeEpoch, batch }: Origin, events: readonly FeedEvent[]): Delivery {
  const [first, last] = [events[0]!.event.id, events.at(-1)!.event.id];
  const what = batch === 1 ? String(first) : `g${row.generation}_${first}_${last}`;
  const message = messageOf(
    events.map(({ event }) => cloudEvent(storeEpoch, event)),
    batch > 1,
  );
  return { id: idOf(row, storeEpoch, what), message, events: events.length };
}

/** Undefined when nothing is to be told. */
export function gapDelivery({ row, storeEpoch, batch }: Origin): Delivery | undefined {
  const { gapReason, gapFrom, gapUntil, gapCount, gapToldAt } = row;
  if (gapReason === null || gapFrom === null || gapUntil === null || gapToldAt !== null) return undefined;
  const id = idOf(row, storeEpoch, `gap_${gapUntil.getTime()}_${gapCount}`);
  const data = {
    reason: gapReason,
    from: gapFrom.toISOString(),
    until: gapUntil.toISOString(),
    ...(gapCount === 0 ? {} : { count: gapCount }),
  };
  const about = { storeEpoch, namespace: row.namespace, webhook: row.name, id, at: gapUntil };
  return { id, message: messageOf([ownCloudEvent(about, "gap", data)], batch > 1), events: 0 };
}

export function pingDelivery({ row, storeEpoch, batch }: Origin, by: string, at: Date): Delivery {
  const id = idOf(row, storeEpoch, `ping_${uuidv7()}`);
  const about = { storeEpoch, namespace: row.namespace, webhook: row.name, id, at };
  return { id, message: messageOf([ownCloudEvent(about, "ping", { by })], batch > 1), events: 0 };
}

/** The store's epoch is in it: a restored store uses the numbers of events again. */
function idOf(row: WebhookRow, storeEpoch: string, what: string): string {
  return `msg_${row.uid.replaceAll("-", "")}_${storeEpoch.slice(0, 8)}_${what}`;
}
