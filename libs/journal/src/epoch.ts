/** Which epoch a data root is in: the rule, and the marker file that it needs. The story is in `journal.ts`. */
import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { StatusError, uuidTimeMs, uuidv7 } from "@berth/base";
import type { EpochReason } from "./journal.ts";

/** What the marker file says: at least this much of this epoch has been durable here. */
export interface Marker {
  readonly epoch: string;
  readonly headSeq: number;
}

/** The newest epoch that the database knows. */
export interface KnownEpoch {
  readonly epoch: string;
  readonly identity: string;
  readonly headSeq: number;
}

/** Why a new epoch must begin, or `kept`. */
export function epochReason(known: KnownEpoch | undefined, marker: Marker | undefined, identity: string): EpochReason {
  if (known === undefined) return marker === undefined ? "new" : "reset";
  if (known.identity !== identity) return "cloned";
  if (marker === undefined || marker.epoch !== known.epoch || known.headSeq < marker.headSeq) return "restored";
  return "kept";
}

/** A UUIDv7 that sorts after every one given, even when the wall clock went back. */
export function nextEpoch(nowMs: number, ...earlier: (string | undefined)[]): string {
  const last = earlier.filter((epoch) => epoch !== undefined && UUID.test(epoch)).map((epoch) => uuidTimeMs(epoch!));
  return uuidv7(Math.max(nowMs, ...last.map((timeMs) => timeMs + 1)));
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Undefined when there is none, or when it cannot be understood: a marker that proves nothing is no marker. */
export async function readMarker(path: string): Promise<Marker | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw StatusError.from(error, `journal marker "${path}"`);
  }
  const [epoch, headSeq] = text.trim().split(" ");
  if (epoch === undefined || !UUID.test(epoch) || headSeq === undefined || !/^\d{1,15}$/.test(headSeq))
    return undefined;
  return { epoch, headSeq: Number(headSeq) };
}

/** Replaces the marker, whole or not at all. */
export async function writeMarker(path: string, marker: Marker): Promise<void> {
  const next = `${path}.next`;
  const file = await open(next, "w", 0o600);
  try {
    await file.writeFile(`${marker.epoch} ${marker.headSeq}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(next, path);
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
