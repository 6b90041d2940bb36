/** `docker history`: the steps that the config tells of, joined with the layers that they made. */
import { StatusError } from "@berth/base";
import { MANIFEST_LIMITS } from "@berth/model";
import { objectOf, parseJson } from "../verify/material.ts";
import type { HistoryEntry, LayerDetails } from "./inspection.ts";

const MAX_ENTRIES = 4 * MANIFEST_LIMITS.layers;
const MAX_TEXT = 64 * 1024;

/** Newest first. Layers without a step of their own, as some builders leave them, stand for themselves. */
export function historyOf(configBytes: Uint8Array, layers: readonly LayerDetails[], image: string): HistoryEntry[] {
  const told = objectOf(parseJson(configBytes))?.["history"];
  const steps = Array.isArray(told) ? (told as unknown[]) : [];
  if (steps.length > MAX_ENTRIES) {
    const text = `image ${image}: its history has ${steps.length} entries, more than ${MAX_ENTRIES}`;
    throw new StatusError("INVALID_ARGUMENT", text, { reason: "IMAGE_CONFIG_INVALID" });
  }
  const left = [...layers];
  const entries = steps.map((step): HistoryEntry => {
    const fields = objectOf(step) ?? {};
    const empty = fields["empty_layer"] === true;
    const layer = empty ? undefined : left.shift();
    const created = Date.parse(textOf(fields["created"]));
    return {
      createdAtMs: Number.isNaN(created) ? undefined : created,
      createdBy: textOf(fields["created_by"]),
      comment: textOf(fields["comment"]),
      author: textOf(fields["author"]),
      empty,
      layer: layer?.descriptor,
      sizeBytes: layer?.unpackedBytes ?? 0,
    };
  });
  const untold = left.map(({ descriptor, unpackedBytes = 0 }): HistoryEntry => {
    const nothing = { createdAtMs: undefined, createdBy: "", comment: "", author: "", empty: false };
    return { ...nothing, layer: descriptor, sizeBytes: unpackedBytes };
  });
  return [...entries, ...untold].reverse();
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value.slice(0, MAX_TEXT) : "";
}
