/**
 * What a caller may ask of a snapshot beyond a key and a parent, as options or as labels: containerd's labels where it has
 * them, so that both doors and proxies understand each other. What was asked is kept in the record's labels.
 */
import { StatusError, type Logger } from "@berth/base";
import { parseIdRanges, type IdMapping } from "@berth/linux";
import type { PrepareOptions, SnapshotterCapabilities } from "./snapshotter.ts";

export const LABELS = {
  /** Decimal bytes. */
  maxSize: "containerd.io/snapshot/max-size",
  /** `inside:outside:count`, several with commas. */
  uidMapping: "containerd.io/snapshot/uidmapping",
  gidMapping: "containerd.io/snapshot/gidmapping",
  /** `true`: its files need not survive a crash of the host. */
  volatile: "berth.io/snapshot.volatile",
} as const;

/** What a snapshotter does when a bound is asked for and its file system has no quotas. */
export type MissingQuota = "refuse" | "warn";

/** Options and labels, checked. */
export interface Wanted {
  readonly labels: Readonly<Record<string, string>>;
  readonly maxBytes: number | undefined;
  readonly idMapping: IdMapping | undefined;
  readonly volatile: boolean;
}

/** @throws INVALID_ARGUMENT naming the field or label. */
export function resolveOptions(options: PrepareOptions): Wanted {
  const labels: Record<string, string> = { ...options.labels };
  if (options.maxBytes !== undefined) labels[LABELS.maxSize] = String(options.maxBytes);
  if (options.volatile === true) labels[LABELS.volatile] = "true";
  return wantedBy(labels);
}

/** What the labels of a record say. */
export function wantedBy(labels: Readonly<Record<string, string>>): Wanted {
  return {
    labels,
    maxBytes: maxBytesOf(labels[LABELS.maxSize]),
    idMapping: idMappingOf(labels),
    volatile: labels[LABELS.volatile] === "true",
  };
}

function maxBytesOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = /^\d{1,16}$/.test(text) ? Number(text) : 0;
  if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  const description = `${JSON.stringify(text)} is no number of bytes greater than 0`;
  throw StatusError.invalid([{ field: `maxBytes (label ${LABELS.maxSize})`, description }], "SNAPSHOT_MAX_SIZE");
}

function idMappingOf(labels: Readonly<Record<string, string>>): IdMapping | undefined {
  const [uid, gid] = [labels[LABELS.uidMapping], labels[LABELS.gidMapping]];
  if (uid === undefined && gid === undefined) return undefined;
  if (uid !== undefined && gid !== undefined) {
    return { uid: parseIdRanges(uid, LABELS.uidMapping), gid: parseIdRanges(gid, LABELS.gidMapping) };
  }
  const field = uid === undefined ? LABELS.uidMapping : LABELS.gidMapping;
  throw StatusError.invalid([{ field, description: "is missing; owners are mapped for users and groups together" }]);
}

/** The mount options that carry a mapping, as containerd's own do; `mounts.ts` understands them. */
export function idMappingOptions(labels: Readonly<Record<string, string>>): readonly string[] {
  const [uid, gid] = [labels[LABELS.uidMapping], labels[LABELS.gidMapping]];
  return uid === undefined || gid === undefined ? [] : [`uidmap=${uid}`, `gidmap=${gid}`];
}

export interface SupportCheck {
  readonly snapshotter: string;
  readonly capabilities: SnapshotterCapabilities;
  readonly missingQuota: MissingQuota;
  /** Why, where a capability is missing. */
  readonly reasons: { readonly quota?: string | undefined; readonly idmap?: string | undefined };
  readonly logger: Logger;
}

/**
 * Refuses what the snapshotter cannot give, rather than ignoring it; a bound may be let go with a warning, by policy.
 * Returns what is left to be done.
 * @throws UNIMPLEMENTED `SNAPSHOT_QUOTA_UNSUPPORTED`, `SNAPSHOT_IDMAP_UNSUPPORTED`.
 */
export function assertSupported(key: string, wanted: Wanted, check: SupportCheck): Wanted {
  const { snapshotter, capabilities, reasons, missingQuota, logger } = check;
  const refuse = (what: string, reason: string, why: string | undefined): StatusError => {
    const text = `snapshot "${key}": ${snapshotter} cannot ${what}${why === undefined ? "" : `: ${why}`}`;
    return new StatusError("UNIMPLEMENTED", text, { reason });
  };
  if (wanted.idMapping !== undefined && !capabilities.idmap) {
    throw refuse("map its owners", "SNAPSHOT_IDMAP_UNSUPPORTED", reasons.idmap);
  }
  if (wanted.maxBytes === undefined || capabilities.quota) return wanted;
  const error = refuse("bound its size", "SNAPSHOT_QUOTA_UNSUPPORTED", reasons.quota);
  if (missingQuota === "refuse") throw error;
  logger.warn({ snapshotter, key, maxBytes: wanted.maxBytes }, `${error.message}; it may grow without bound`);
  return { ...wanted, maxBytes: undefined };
}
