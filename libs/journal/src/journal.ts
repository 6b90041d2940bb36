/**
 * The agent's journal: the gap-free, ordered, durable list of what happened on this node (D4).
 *
 * An entry is appended in the same transaction as the change of state it tells of (`transact`), so neither is ever there
 * without the other. It is published afterwards (`publisher.ts`) and kept until the controller says that it has stored it.
 * What an entry says is bytes to this library; the engine makes and reads them.
 *
 * Invariants:
 *  1. Within an epoch the numbers run 1, 2, 3… without a gap: they are given inside the transaction, and one that is undone
 *     has used none.
 *  2. An entry is never changed, and leaves only below the controller's stored watermark.
 *  3. A full journal refuses the entries of new work; what existing work came to is always taken.
 *  4. No two histories share an epoch. Numbers are only comparable within one.
 *  5. Each entry carries the hash of the one before and of its own bytes (`hash-chain.ts` of @berth/base), computed where its
 *     number is given. The bytes go to the controller as they are here: what is changed on the way, or on this disk, shows.
 *
 * An epoch is one unbroken history of one data root. `openJournal` begins a new one when this file may not be the
 * continuation of what was published before (reasons in {@link EpochReason}):
 *  - there is none yet (`new`), or the database was thrown away while the marker stayed (`reset`);
 *  - the machine facts differ from those that the epoch was begun with: the data root was copied (`cloned`);
 *  - the marker, a small file beside the database that trails the head by about a second, knows a later head or another
 *    epoch than the database does, or is gone: the database was put back from a backup (`restored`).
 * One case shows only later: database and marker were rolled back together, as a VM snapshot does. Then the controller has
 * stored more than was ever written here (`acknowledge`); the epoch ends (`rolled back`) and every entry not known to be
 * stored goes on in the next one, for its number may already stand for something else.
 *
 * Entries of earlier epochs are kept until stored, like all others, unless they belong to another node's name.
 *
 * A file belongs to one node, as a rule. Simulated nodes share one: then each journal has the epochs of its node and leaves
 * the others' alone, and there is no marker, for nobody restores such a file.
 */
import type { Metadata, Statement, StatementResult } from "@berth/metadata";

export interface NewEntry {
  /** What sort of entry, for people and filters. */
  readonly kind: string;
  readonly payload: Uint8Array;
  /** True for an intent that takes on work; a full journal refuses it. */
  readonly newWork?: boolean;
  /** True for a step that another one follows, as a rule soon: it may be published with that one. */
  readonly interim?: boolean;
}

export interface Entry {
  readonly epoch: string;
  readonly seq: number;
  /** When it was appended, by the wall clock: for people, never for order. */
  readonly timeMs: number;
  readonly kind: string;
  readonly payload: Uint8Array;
  /** Absent in entries that were appended before there were chains. */
  readonly hash?: Uint8Array;
}

/** Where an entry stands. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** The newest entry of an append; `interim`: all of the append's entries are. */
export interface Appended extends Position {
  readonly interim: boolean;
}

export type EpochReason = "kept" | "new" | "reset" | "cloned" | "restored" | "rolled back";

export interface EpochState {
  readonly epoch: string;
  /** The last number given; 0 for none. */
  readonly headSeq: number;
  /** The controller has stored everything up to here, and it is gone from here. */
  readonly storedSeq: number;
}

export interface Transacted {
  /** Of the caller's statements, in their order. */
  readonly results: readonly StatementResult[];
  /** Of the entries, in their order. */
  readonly positions: readonly Position[];
}

export interface Journal extends AsyncDisposable {
  /** The current epoch: a UUIDv7 that sorts after every earlier one of this data root. */
  readonly epoch: string;
  /** Why the current epoch is the current one. */
  readonly reason: EpochReason;
  /** The rows of the journal's owner are in the same file. */
  readonly metadata: Metadata;
  /** Whose rows are whose in a file that several nodes share: the node's name; empty where the file is this node's alone. */
  readonly owner: string;
  /**
   * Applies the statements and appends the entries as one durable transaction.
   * @throws RESOURCE_EXHAUSTED `JOURNAL_FULL`; INVALID_ARGUMENT `JOURNAL_ENTRY_TOO_LARGE`; what {@link Metadata.transact} throws.
   */
  transact(statements: readonly Statement[], entries: readonly NewEntry[]): Promise<Transacted>;
  append(entries: readonly NewEntry[]): Promise<readonly Position[]>;
  /** Called after each durable append with the newest entry's position. */
  onAppend(listener: (head: Appended) => void): Disposable;
  /** Entries of the current epoch from `fromSeq` on: at most `limit`, and no more bytes than `maxBytes` but at least one. */
  read(fromSeq: number, limit: number, maxBytes?: number): readonly Entry[];
  readEpoch(epoch: string, fromSeq: number, limit: number, maxBytes?: number): readonly Entry[];
  /** The last number of the current epoch; 0 for none. */
  head(): number;
  /** Every epoch that has something left to be stored, and the current one, in their order. */
  epochs(): readonly EpochState[];
  /** The first number of the epoch that can still be read, for the answer to a fetch. */
  firstAvailable(epoch: string): number;
  /**
   * The controller says that it has stored the epoch up to `storedSeq`: that much is pruned. More than there ever was here
   * means that this history was rolled back, and begins a new epoch. An unknown epoch is ignored.
   * @returns whether the watermark moved.
   */
  acknowledge(epoch: string, storedSeq: number): Promise<boolean>;
  /** Would new work be refused now? */
  isFull(): boolean;
}
