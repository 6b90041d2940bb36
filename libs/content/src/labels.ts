/** Labels of blobs and ingests: containerd's limits, its field paths, and its filters over them. */
import { StatusError } from "@berth/base";
import { anyFilterMatches, parseFilter, type Filter, type FieldOf } from "@berth/model";
import type { BlobInfo, IngestStatus, Labels } from "./content.ts";

/** containerd's bound on key and value together. */
const MAX_LABEL_BYTES = 4_096;
const PREFIX = "labels.";

/** @throws INVALID_ARGUMENT naming the label. */
export function checkLabels(labels: Labels): void {
  for (const [key, value] of Object.entries(labels)) {
    const problem = key === "" ? "has an empty key" : tooLong(key, value);
    if (problem !== undefined) {
      throw StatusError.invalid([{ field: `labels.${key.slice(0, 64)}`, description: problem }]);
    }
  }
}

function tooLong(key: string, value: string): string | undefined {
  if (Buffer.byteLength(key) + Buffer.byteLength(value) <= MAX_LABEL_BYTES) return undefined;
  return `has more than ${MAX_LABEL_BYTES} bytes of key and value together`;
}

/** What an update does: labels to set, and to remove (null); `replace` when those not named go too. */
export interface LabelChange {
  readonly replace: boolean;
  readonly patch: Readonly<Record<string, string | null>>;
}

/** @throws INVALID_ARGUMENT for a field path that is not of labels. */
export function labelChange(labels: Labels, fieldPaths: readonly string[] | undefined): LabelChange {
  checkLabels(labels);
  const filled = Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ""));
  if (fieldPaths === undefined || fieldPaths.length === 0) return { replace: true, patch: filled };
  let replace = false;
  const patch: Record<string, string | null> = {};
  for (const path of fieldPaths) {
    if (path === "labels") {
      replace = true;
      Object.assign(patch, filled);
    } else if (path.startsWith(PREFIX) && path.length > PREFIX.length) {
      const key = path.slice(PREFIX.length);
      patch[key] = filled[key] ?? null;
    } else {
      const description = `is ${JSON.stringify(path)}; only labels and labels.<key> can be changed`;
      throw StatusError.invalid([{ field: "fieldPaths", description }]);
    }
  }
  return { replace, patch };
}

/** The labels after a change, as the SQL of `rows.ts` makes them. */
export function applyChange(before: Labels, { replace, patch }: LabelChange): Labels {
  const after: Record<string, string> = replace ? {} : { ...before };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete after[key];
    else after[key] = value;
  }
  return after;
}

/** @throws INVALID_ARGUMENT `FILTER_INVALID` */
export function parseFilters(filters: readonly string[] | undefined): readonly Filter[] {
  return (filters ?? []).map(parseFilter);
}

export function blobMatches(filters: readonly Filter[], info: BlobInfo): boolean {
  return anyFilterMatches(filters, fieldsOf({ digest: info.digest, size: String(info.sizeBytes) }, info.labels));
}

export function ingestMatches(filters: readonly Filter[], { ref, expected, lease, labels }: IngestStatus): boolean {
  return anyFilterMatches(filters, fieldsOf({ ref, expected, lease }, labels));
}

/** Label keys hold dots: `labels.a.b` and `labels."a.b"` are the same, as in containerd. */
function fieldsOf(fields: Readonly<Record<string, string | undefined>>, labels: Labels): FieldOf {
  return ([first, ...rest]) => {
    if (first === "labels") return rest.length === 0 ? undefined : labels[rest.join(".")];
    return rest.length === 0 && first !== undefined && Object.hasOwn(fields, first) ? fields[first] : undefined;
  };
}
