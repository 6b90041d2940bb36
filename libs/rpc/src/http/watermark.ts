/**
 * The header `Berth-Watermark`: up to when the observations of an answer speak, for callers that look at no body.
 *
 *     Berth-Watermark: 2026-11-29T12:00:00.000Z; node="node-1"; journal="0193…/41/45"; stale=1
 *
 * Of a list: its `watermark`, the node that is furthest behind; `journal` is epoch, stored and head. Of one task or node: its
 * `status.observedUntil` alone. Absent where an answer tells nothing that was observed.
 */
import { isMessage, type Message } from "@bufbuild/protobuf";
import { timestampDate, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { WatermarkSchema } from "@berth/proto";

export function watermarkOf(answer: Message): string | undefined {
  const { watermark, status } = answer as { watermark?: unknown; status?: { observedUntil?: unknown } };
  if (!isMessage(watermark, WatermarkSchema)) return timeOf(status?.observedUntil);
  const { observedUntil, node, journalEpoch, journalStoredSeq, journalHeadSeq, staleNodes } = watermark;
  const time = timeOf(observedUntil);
  if (time === undefined) return undefined;
  const journal = journalEpoch === "" ? "" : `; journal="${journalEpoch}/${journalStoredSeq}/${journalHeadSeq}"`;
  // What a node says of itself is in no header but as printable ASCII.
  return `${time}; node="${node}"${journal}; stale=${staleNodes}`.replaceAll(/[^\x20-\x7e]/g, "?");
}

function timeOf(time: unknown): string | undefined {
  return isMessage(time, TimestampSchema) ? timestampDate(time).toISOString() : undefined;
}
