/** The journal in the agent's metadata. See `journal.ts` for what it promises. */
import { Emitter, silentLogger, StatusError, systemClock, throwIfAborted, type Clock, type Logger } from "@berth/base";
import type { Metadata, Statement } from "@berth/metadata";
import { epochReason, nextEpoch, readMarker, writeMarker } from "./epoch.ts";
import type { Appended, Entry, EpochReason, EpochState, Journal, NewEntry, Position, Transacted } from "./journal.ts";
import {
  appendEntries,
  beginEpoch,
  dropOtherNodes,
  ENTRY_OVERHEAD_BYTES,
  JournalRows,
  moveUnstored,
  pruneEntries,
  ofNode,
  toExtent,
  WHOLE_FILE,
  type Scope,
  type StateRow,
} from "./rows.ts";

export interface JournalDeps {
  /** Opened with `journalMigrations` among its migrations. */
  readonly metadata: Metadata;
  /** The marker file, in the data root and outside the database (`journal.epoch`). Without one a restore goes unnoticed. */
  readonly markerPath?: string;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export interface JournalConfig {
  /** This node's name. */
  readonly node: string;
  /** Facts that a copy on another machine does not share: the machine's id, the data root's device and inode. */
  readonly identity: string;
  /** New work is refused when more than `1 - reserveShare` of one of these is used. */
  readonly maxEntries?: number;
  readonly maxBytes?: number;
  readonly reserveShare?: number;
  /** Other nodes' journals are in the same file. Default false: what is another node's is removed. */
  readonly sharesFile?: boolean;
}

type ResolvedConfig = Required<JournalConfig>;

/** One message of the bus must hold it: NATS takes 1 MiB by default. */
const MAX_PAYLOAD_BYTES = 512 * 1024;
const MARKER_DELAY_MS = 1_000;
const PRUNE_STEP = 5_000;
const READ_STEP = 200;
const READ_MAX_BYTES = 512 * 1024;

export async function openJournal(
  deps: JournalDeps,
  config: JournalConfig,
  options: { signal?: AbortSignal } = {},
): Promise<Journal> {
  const resolved: ResolvedConfig = {
    maxEntries: 200_000,
    maxBytes: 256 * 1024 * 1024,
    reserveShare: 0.1,
    sharesFile: false,
    ...config,
  };
  throwIfAborted(options.signal);
  const { metadata, clock = systemClock } = deps;
  const rows = new JournalRows(metadata, scopeOf(resolved));
  const known = rows.current();
  const marker = deps.markerPath === undefined ? known : await readMarker(deps.markerPath);
  const reason = epochReason(known, marker, config.identity);
  if (reason !== "kept") {
    const epoch = nextEpoch(clock.nowMs(), known?.epoch, marker?.epoch);
    const begin = beginEpoch(epoch, config.node, config.identity, clock.nowMs());
    await metadata.transact([begin, ...(resolved.sharesFile ? [] : dropOtherNodes(config.node))]);
  }
  if (deps.markerPath !== undefined) await writeMarker(deps.markerPath, rows.current()!);
  return new SqliteJournal(deps, resolved, rows, reason);
}

function scopeOf({ node, sharesFile }: ResolvedConfig): Scope {
  return sharesFile ? ofNode(node) : WHOLE_FILE;
}

class SqliteJournal implements Journal {
  readonly metadata: Metadata;
  readonly owner: string;
  readonly #markerPath: string | undefined;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #config: ResolvedConfig;
  readonly #rows: JournalRows;
  readonly #appends = new Emitter<Appended>();
  readonly #closing = new AbortController();
  #reason: EpochReason;
  /** What is in the table, and what is on its way there. */
  #entries: number;
  #bytes: number;
  #marking: Promise<void> | undefined;
  /** Something was appended since the marker was last begun to be written. */
  #unmarked = false;
  #acknowledging: Promise<unknown> = Promise.resolve();
  #disposed: Promise<void> | undefined;
  /** The epochs as the newest resolved transaction has left them, in their order; undefined: to be read again. */
  #states: readonly StateRow[] | undefined;

  constructor(deps: JournalDeps, config: ResolvedConfig, rows: JournalRows, reason: EpochReason) {
    this.metadata = deps.metadata;
    this.owner = config.sharesFile ? config.node : "";
    this.#markerPath = deps.markerPath;
    this.#clock = deps.clock ?? systemClock;
    this.#logger = deps.logger ?? silentLogger;
    this.#config = config;
    this.#rows = rows;
    this.#reason = reason;
    const extent = rows.extent();
    this.#entries = extent.entries;
    this.#bytes = extent.bytes;
  }

  get epoch(): string {
    return this.#current().epoch;
  }

  get reason(): EpochReason {
    return this.#reason;
  }

  async transact(statements: readonly Statement[], entries: readonly NewEntry[]): Promise<Transacted> {
    if (this.#disposed !== undefined)
      throw new StatusError("UNAVAILABLE", "the journal is closed", { reason: "JOURNAL_CLOSED" });
    this.#admit(entries);
    const bytes = weight(entries);
    this.#entries += entries.length;
    this.#bytes += bytes;
    try {
      const appending = entries.length === 0 ? [] : appendEntries(entries, this.#clock.nowMs(), scopeOf(this.#config));
      const results = await this.metadata.transact([...statements, ...appending]);
      const positions = entries.map((_, index) => toPosition(results[statements.length + index]?.rows[0]));
      this.#appended(positions.at(-1), entries.every(isInterim));
      return { results: results.slice(0, statements.length), positions };
    } catch (error) {
      this.#entries -= entries.length;
      this.#bytes -= bytes;
      throw error;
    }
  }

  async append(entries: readonly NewEntry[]): Promise<readonly Position[]> {
    return (await this.transact([], entries)).positions;
  }

  onAppend(listener: (head: Appended) => void): Disposable {
    return this.#appends.on(listener);
  }

  read(fromSeq: number, limit: number, maxBytes?: number): readonly Entry[] {
    return this.readEpoch(this.epoch, fromSeq, limit, maxBytes);
  }

  readEpoch(epoch: string, fromSeq: number, limit: number, maxBytes = READ_MAX_BYTES): readonly Entry[] {
    const read: Entry[] = [];
    let bytes = 0;
    while (read.length < limit) {
      const step = Math.min(READ_STEP, limit - read.length);
      const page = this.#rows.entries(epoch, (read.at(-1)?.seq ?? fromSeq - 1) + 1, step);
      for (const entry of page) {
        bytes += entry.payload.length + ENTRY_OVERHEAD_BYTES;
        if (read.length > 0 && bytes > maxBytes) return read;
        read.push(entry);
      }
      if (page.length < step) break;
    }
    return read;
  }

  head(): number {
    return this.#current().headSeq;
  }

  epochs(): readonly EpochState[] {
    return this.#known().map(({ epoch, headSeq, storedSeq }) => ({ epoch, headSeq, storedSeq }));
  }

  firstAvailable(epoch: string): number {
    return (this.#stateOf(epoch)?.storedSeq ?? 0) + 1;
  }

  /** One after another, for a roll back looks at the watermark that the one before has left. */
  acknowledge(epoch: string, storedSeq: number): Promise<boolean> {
    const result = this.#acknowledging.then(() => this.#acknowledge(epoch, storedSeq));
    this.#acknowledging = result.catch(() => undefined);
    return result;
  }

  isFull(): boolean {
    const share = 1 - this.#config.reserveShare;
    return this.#entries >= this.#config.maxEntries * share || this.#bytes >= this.#config.maxBytes * share;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#close();
    return this.#disposed;
  }

  async #close(): Promise<void> {
    await this.#acknowledging;
    this.#closing.abort();
    await this.#marking;
    await this.#mark();
  }

  /** Everybody asks for them all the time, and nobody else changes them. */
  #known(): readonly StateRow[] {
    return (this.#states ??= this.#rows.states());
  }

  #stateOf(epoch: string): StateRow | undefined {
    return this.#known().find((state) => state.epoch === epoch);
  }

  #current(): StateRow {
    const state = this.#known().at(-1);
    if (state === undefined)
      throw new StatusError("INTERNAL", "journal: no epoch has begun", { reason: "JOURNAL_NO_EPOCH" });
    return state;
  }

  /** Invariant 3, and the size that a message of the bus can take. */
  #admit(entries: readonly NewEntry[]): void {
    const large = entries.find(({ payload }) => payload.length > MAX_PAYLOAD_BYTES);
    if (large !== undefined) {
      const message = `journal: an entry of kind "${large.kind}" has ${large.payload.length} bytes, more than ${MAX_PAYLOAD_BYTES}`;
      throw new StatusError("INVALID_ARGUMENT", message, { reason: "JOURNAL_ENTRY_TOO_LARGE" });
    }
    if (!entries.some((entry) => entry.newWork === true) || !this.isFull()) return;
    const message = `journal: ${this.#entries} entries wait to be stored by the controller; new work is refused until it is reached`;
    throw new StatusError("RESOURCE_EXHAUSTED", message, { reason: "JOURNAL_FULL" });
  }

  #appended(last: Position | undefined, interim: boolean): void {
    if (last === undefined) return;
    const { epoch, seq } = last;
    this.#states = this.#states?.map((state) =>
      state.epoch === epoch && state.headSeq < seq ? { ...state, headSeq: seq } : state,
    );
    this.#unmarked = true;
    if (this.#markerPath !== undefined) this.#marking ??= this.#markLater();
    this.#appends.emit({ epoch, seq, interim });
  }

  async #acknowledge(epoch: string, storedSeq: number): Promise<boolean> {
    const state = this.#stateOf(epoch);
    if (state === undefined || storedSeq <= state.storedSeq) return false;
    if (storedSeq > state.headSeq && epoch === this.epoch) {
      await this.#rollBack(state, storedSeq);
      return true;
    }
    const through = Math.min(storedSeq, state.headSeq);
    for (let seq = state.storedSeq; seq < through;) {
      seq = Math.min(through, seq + PRUNE_STEP);
      const [extent] = await this.metadata.transact(pruneEntries(epoch, seq, scopeOf(this.#config)));
      this.#states = undefined;
      const pruned = toExtent(extent?.rows[0]);
      this.#entries -= pruned.entries;
      this.#bytes -= pruned.bytes;
    }
    return true;
  }

  async #rollBack(state: StateRow, storedSeq: number): Promise<void> {
    const { node, identity } = this.#config;
    const next = nextEpoch(this.#clock.nowMs(), state.epoch);
    const begin = beginEpoch(next, node, identity, this.#clock.nowMs());
    await this.metadata.transact([begin, ...moveUnstored(state.epoch, next)]);
    this.#states = undefined;
    this.#reason = "rolled back";
    const { epoch, headSeq } = state;
    this.#logger.warn(
      { epoch, headSeq, storedSeq, next },
      "the controller has stored more than was written here; a new epoch begins",
    );
    this.#appended({ epoch: next, seq: this.head() }, false);
  }

  async #markLater(): Promise<void> {
    const { signal } = this.#closing;
    await this.#clock.sleep(MARKER_DELAY_MS, signal).catch(() => undefined);
    this.#unmarked = false;
    if (!signal.aborted) await this.#mark();
    this.#marking = this.#unmarked && !signal.aborted ? this.#markLater() : undefined;
  }

  /** A marker that trails costs only the chance to notice a restore, so its failure fails nothing. */
  async #mark(): Promise<void> {
    if (this.#markerPath === undefined) return;
    try {
      await writeMarker(this.#markerPath, this.#current());
    } catch (error) {
      this.#logger.warn({ err: error, path: this.#markerPath }, "the journal's marker could not be written");
    }
  }
}

function isInterim({ interim }: NewEntry): boolean {
  return interim === true;
}

function weight(entries: readonly NewEntry[]): number {
  return entries.reduce((sum, { payload }) => sum + payload.length + ENTRY_OVERHEAD_BYTES, 0);
}

function toPosition(row: Readonly<Record<string, unknown>> | undefined): Position {
  return { epoch: String(row?.["epoch"]), seq: Number(row?.["seq"]) };
}
