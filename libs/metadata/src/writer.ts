/**
 * What the calling thread and the writer thread say to each other. Everything here can be cloned between threads.
 *
 * The writer speaks first (`opened` or `refused`); then every request is answered once, by its id, in the order of the
 * requests. `close` is answered by the thread's end, after everything asked before it.
 */
import type { Failure } from "./failure.ts";
import type { Migration, SqlValue, Statement, StatementResult } from "./metadata.ts";
import type { Packed } from "./wire.ts";

export interface WriterInput {
  readonly path: string;
  readonly migrations: readonly Migration[];
  readonly headroomBytes: number;
}

export type WriterRequest = { readonly kind: "transact"; readonly packed: Packed } | { readonly kind: "close" };

/** One transaction. */
export interface Member {
  readonly id: number;
  readonly statements: readonly Statement[];
}

/** The outcome of one transaction. */
export type Answer =
  | { readonly id: number; readonly results: readonly StatementResult[] }
  | { readonly id: number; readonly failure: Failure };

export type WriterReply =
  | { readonly kind: "opened" }
  | { readonly kind: "refused"; readonly failure: Failure }
  /** One group: all its answers, after its one COMMIT, as `wire.ts` packs them. */
  | { readonly kind: "answered"; readonly answers: readonly SqlValue[]; readonly commits: number };
