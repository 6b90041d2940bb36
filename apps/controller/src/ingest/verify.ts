/**
 * Is what is stored of a journal what its node wrote? Every hash is computed again, and what each event says is made again from
 * the entry's bytes. Finds rows that were changed, removed or doubled after they were stored, and repeats what was marked when it
 * came. Cannot find a store whose rows, hashes and heads were all written anew: for that, keep heads elsewhere.
 *
 * The first entry that is kept is taken at its word when those before it were dropped by retention.
 */
import { create, equals, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { chainBegin, chainNext, sameHash } from "@berth/base";
import { EventSchema, JournalEntrySchema, type JournalFaultSchema } from "@berth/proto";
import { eventMessage, type JournalEventRow, type NewEvent, type StoredEpoch } from "@berth/store";
import { read } from "./chain.ts";
import { eventSaid } from "./entries.ts";

export type Fault = MessageInitShape<typeof JournalFaultSchema>;

export interface EpochAudit {
  readonly firstKeptSeq: number;
  readonly checked: number;
  /** The first {@link MAX_FAULTS}. */
  readonly faults: readonly Fault[];
  readonly faultCount: number;
}

export const MAX_FAULTS = 100;

/** @param pages what is kept of the epoch, in the order of seq */
export async function auditEpoch(
  epoch: StoredEpoch,
  pages: AsyncIterable<readonly JournalEventRow[]>,
): Promise<EpochAudit> {
  const audit = new Audit(epoch);
  for await (const rows of pages) for (const row of rows) audit.take(row);
  return audit.end();
}

class Audit {
  readonly #epoch: StoredEpoch;
  readonly #faults: Fault[] = [];
  #faultCount = 0;
  #checked = 0;
  #firstKeptSeq = 0;
  #lastSeq = 0;
  /** Of the entry at `lastSeq`; undefined: not known. */
  #hash: Uint8Array | undefined;

  constructor(epoch: StoredEpoch) {
    this.#epoch = epoch;
    this.#hash = chainBegin(epoch.node, epoch.epoch);
  }

  take(row: JournalEventRow): void {
    const seq = row.journalSeq!;
    if (this.#checked === 0) {
      this.#firstKeptSeq = seq;
      if (seq > 1) this.#hash = undefined;
    } else if (seq === this.#lastSeq) {
      this.#note(seq, "Altered", "it is stored twice");
      return;
    } else if (seq > this.#lastSeq + 1) {
      const [from, to] = [this.#lastSeq + 1, seq - 1];
      this.#note(from, "Missing", from === to ? "it is not there" : `entries ${from} to ${to} are not there`);
      this.#hash = undefined;
    }
    this.#checked += 1;
    this.#lastSeq = seq;
    if (row.entryHash === null || row.entry === null) this.#unchained(row, seq);
    else this.#chained(row, seq, row.entry, row.entryHash);
  }

  end(): EpochAudit {
    const { storedSeq, headHash } = this.#epoch;
    if (this.#lastSeq < storedSeq && this.#checked > 0) {
      this.#note(this.#lastSeq + 1, "Missing", `entries up to ${storedSeq} were stored and are not there`);
    } else if (headHash !== null && this.#hash !== undefined && !sameHash(headHash, this.#hash)) {
      this.#note(storedSeq, "Altered", "its hash is not the one that was kept as the epoch's head");
    }
    return {
      firstKeptSeq: this.#firstKeptSeq,
      checked: this.#checked,
      faults: this.#faults,
      faultCount: this.#faultCount,
    };
  }

  #unchained(row: JournalEventRow, seq: number): void {
    const { chainedFromSeq } = this.#epoch;
    if (chainedFromSeq === null || seq < chainedFromSeq) return;
    const arrived = row.attributes["chain_broken"];
    this.#note(seq, arrived === undefined ? "Altered" : "Arrived", arrived ?? "its hash is gone");
    this.#hash = undefined;
  }

  #chained(row: JournalEventRow, seq: number, payload: Uint8Array, hash: Uint8Array): void {
    const { chainedFromSeq, node, epoch } = this.#epoch;
    // Where entries from before there were chains end, the chain begins.
    if (seq === chainedFromSeq) this.#hash = chainBegin(node, epoch);
    const arrived = row.attributes["chain_broken"];
    const timeMs = row.time.getTime();
    const follows = this.#hash === undefined || sameHash(hash, chainNext(this.#hash, { seq, timeMs, payload }));
    this.#hash = hash;
    if (arrived !== undefined) this.#note(seq, "Arrived", arrived);
    else if (!follows) this.#note(seq, "Altered", "its bytes and the hash before it do not make its hash");
    const difference = differenceOf(row, payload);
    if (difference !== undefined) this.#note(seq, "Altered", difference);
  }

  #note(seq: number, kind: string, message: string): void {
    this.#faultCount += 1;
    if (this.#faults.length < MAX_FAULTS) this.#faults.push({ seq: BigInt(seq), kind, message });
  }
}

/** In what the event is not what the entry's bytes say; undefined: in nothing. */
function differenceOf(row: JournalEventRow, payload: Uint8Array): string | undefined {
  const { node, journalEpoch, journalSeq, time } = row;
  const written = create(JournalEntrySchema, { payload, time: timestampFromDate(time) });
  const entry = read(written);
  if (entry === undefined) return row.attributes["chain_broken"] === undefined ? "its bytes cannot be read" : undefined;
  const said = eventSaid({ node, epoch: journalEpoch!, seq: journalSeq!, entry });
  const { chain_broken: _mark, ...attributes } = row.attributes;
  const shown = eventMessage({ ...row, attributes });
  const meant = create(EventSchema, { ...withDefaults(said), id: shown.id });
  if (equals(EventSchema, shown, meant)) return undefined;
  const fields = COMPARED.filter((field) => JSON.stringify(shown[field]) !== JSON.stringify(meant[field]));
  return `the event says something else than the entry: ${fields.join(", ") || "attributes"}`;
}

const COMPARED = ["namespace", "topic", "kind", "name", "uid", "severity", "reason", "message"] as const;

function withDefaults({ time, journalEpoch, journalSeq, ...event }: NewEvent): MessageInitShape<typeof EventSchema> {
  const clean = (text = ""): string => text.replaceAll("\0", "\uFFFD");
  return {
    namespace: clean(event.namespace),
    topic: clean(event.topic),
    kind: event.kind,
    name: clean(event.name),
    uid: clean(event.uid),
    node: event.node ?? "",
    severity: event.severity ?? "Normal",
    reason: clean(event.reason),
    message: clean(event.message),
    attributes: Object.fromEntries(Object.entries(event.attributes ?? {}).map(([key, value]) => [key, clean(value)])),
    ...(time === undefined ? {} : { time: timestampFromDate(time) }),
    journalEpoch: journalEpoch ?? "",
    journalSeq: BigInt(journalSeq ?? 0),
  };
}
