/**
 * The agent's one SQLite file (WAL, `synchronous=FULL`), and the contract through which every other library keeps rows.
 *
 * A library that keeps rows exports its {@link Migration}s and writes its own SQL; this one owns the file, the order in
 * which transactions become durable, and nothing of what they mean.
 *
 * Invariants:
 *  1. A promise of `transact` resolves only after its transaction is on disk (A2).
 *  2. Transactions apply in the order of the calls. Several may share one fsync (group commit); each is still all or
 *     nothing, and one that fails does not take its neighbours with it.
 *  3. Writing happens in a worker thread; an fsync never stalls the event loop that serves the API (A4). Reads are
 *     synchronous on read-only connections of the calling thread and see every transaction whose promise has resolved.
 */

export type SqlValue = null | number | bigint | string | Uint8Array;
export type SqlRow = Record<string, SqlValue>;

/** One statement of a transaction; parameters are positional (`?`). */
export interface Statement {
  readonly sql: string;
  readonly params?: readonly SqlValue[];
  /**
   * What must hold for the transaction to go on. `rows` counts what a SELECT or RETURNING gives, `changes` what an
   * INSERT, UPDATE or DELETE touched. If it does not hold, the whole transaction is undone and `transact` rejects with
   * a StatusError made of `otherwise`.
   */
  readonly expect?: {
    readonly rows?: number;
    readonly changes?: number;
    readonly otherwise: { readonly code: string; readonly reason: string; readonly message: string };
  };
}

/** What one statement gave: rows of a SELECT or RETURNING, and how many rows it changed. */
export interface StatementResult {
  readonly rows: readonly SqlRow[];
  readonly changes: number;
}

/** A step of the schema. Names sort in the order of application (`content-0001-blobs`); an applied one never changes. */
export interface Migration {
  readonly name: string;
  readonly sql: string;
  /**
   * Programs that do not know the step can go on with the file: it adds tables, indexes, or columns that are null or have a default,
   * and takes nothing away. What lets an upgrade of the agent be taken back.
   */
  readonly additive?: true;
}

export interface Metadata extends AsyncDisposable {
  /**
   * Applies the statements as one durable transaction.
   * @throws the `otherwise` of a failed expectation; RESOURCE_EXHAUSTED `METADATA_DISK_FULL`; ALREADY_EXISTS
   * `METADATA_CONSTRAINT` for a violated UNIQUE or PRIMARY KEY; DATA_LOSS `METADATA_CORRUPT`.
   */
  transact(statements: readonly Statement[]): Promise<readonly StatementResult[]>;
  /** All rows of a query, at once. For lists that may be long, page by key. */
  all(sql: string, ...params: SqlValue[]): SqlRow[];
  /** The first row, if there is one. */
  get(sql: string, ...params: SqlValue[]): SqlRow | undefined;
  /** Writes a consistent copy of the file to `path`, which must not exist. */
  backup(path: string): Promise<void>;
}
