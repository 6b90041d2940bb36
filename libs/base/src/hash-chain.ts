/**
 * The chain of a node's journal: each entry carries the hash of the hash before it and of its own bytes (D4). Whoever holds the
 * newest hash of an epoch holds every entry beneath it: none can be changed, left out, added or moved without a hash that no
 * longer fits.
 *
 *     first  = sha256("berth-journal " node " " epoch " ")
 *     hash n = sha256(hash n-1, "<seq> <timeMs> ", payload)
 *
 * The agent computes the same in SQL, in the transaction that appends (`libs/journal/src/rows.ts`); the controller here.
 */
import { hash } from "node:crypto";

export interface ChainedEntry {
  readonly seq: number;
  readonly timeMs: number;
  readonly payload: Uint8Array;
}

/** What the first entry of an epoch follows: it names the journal, so that no entry fits into another one. */
export function chainBegin(node: string, epoch: string): Uint8Array {
  return hash("sha256", `berth-journal ${node} ${epoch} `, "buffer");
}

export function chainNext(before: Uint8Array, { seq, timeMs, payload }: ChainedEntry): Uint8Array {
  return hash("sha256", Buffer.concat([before, Buffer.from(`${seq} ${timeMs} `), payload]), "buffer");
}

export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
