/**
 * Do entries follow from what is stored before them (D4)? Pure.
 *
 * One that does not is stored all the same, for it may be all that is known of something; but it is marked, and never silently.
 * The chain goes on from the hash that it claims, so that one damaged entry is one break and not all that come after it.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { chainBegin, chainNext, sameHash } from "@berth/base";
import { JournalEntrySchema, type JournalEntry } from "@berth/proto";
import type { JournalState } from "@berth/store";
import type { PlacedEntry } from "./entries.ts";

/** What an epoch's chain is after its last entry. */
export interface ChainHead {
  readonly hash: Uint8Array | null;
  readonly chainedFromSeq: number | null;
}

export interface ChainedRun {
  /** With their contents read and their breaks noted. */
  readonly entries: readonly PlacedEntry[];
  readonly head: ChainHead;
}

/** @param entries of one epoch, in order, right after the one that `state` stands at */
export function followChain(
  node: string,
  epoch: string,
  entries: readonly PlacedEntry[],
  state: Pick<JournalState, "headHash" | "chainedFromSeq"> | undefined,
): ChainedRun {
  let hash = state?.headHash ?? null;
  let chainedFromSeq = state?.chainedFromSeq ?? null;
  const followed = entries.map((placed): PlacedEntry => {
    const { entry, seq } = placed;
    if (entry.hash.length === 0) {
      // An agent from before there were chains; one that has begun to chain never ceases to.
      return chainedFromSeq === null ? placed : { ...placed, broken: "it carries no hash, those before it did" };
    }
    const before = hash ?? chainBegin(node, epoch);
    const timeMs = entry.time === undefined ? 0 : timestampMs(entry.time);
    const follows = sameHash(entry.hash, chainNext(before, { seq, timeMs, payload: entry.payload }));
    hash = entry.hash;
    chainedFromSeq ??= seq;
    const contents = read(entry);
    if (contents === undefined) return { ...placed, broken: "its bytes cannot be read" };
    return {
      ...placed,
      entry: contents,
      ...(follows ? {} : { broken: "its bytes and the hash before it do not make its hash" }),
    };
  });
  return { entries: followed, head: { hash, chainedFromSeq } };
}

/** The entry with what its bytes say. Undefined when they say nothing. */
export function read(entry: JournalEntry): JournalEntry | undefined {
  try {
    const { namespace, body } = fromBinary(JournalEntrySchema, entry.payload);
    return { ...entry, namespace, body };
  } catch {
    return undefined;
  }
}
