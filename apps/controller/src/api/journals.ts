/** JournalService: what is stored of a node's journal, looked over. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import {
  AcknowledgeJournalResponseSchema,
  JournalAcknowledgementSchema,
  JournalEpochSchema,
  JournalService,
  VerifyJournalResponseSchema,
  type JournalEpoch,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  acknowledgeBreaks,
  getNode,
  insertEvents,
  journalEvents,
  storedEpochs,
  touchNodes,
  type JournalEventRow,
  type StoredEpoch,
  type Tx,
} from "@berth/store";
import { auditEpoch } from "../ingest/verify.ts";
import { notFound } from "./refusals.ts";
import type { WatchDeps } from "./watch.ts";

const PAGE = 2_000;

export function journalService({ store }: Pick<WatchDeps, "store">): Implementation {
  return implement(JournalService, {
    async verifyJournal({ node }) {
      const stored = await storedEpochs(store.db, node);
      if (stored.length === 0 && (await getNode(store.db, node)) === undefined) throw notFound("node", node);
      const epochs: JournalEpoch[] = [];
      for (const epoch of stored) epochs.push(await audited(store.db, epoch));
      return create(VerifyJournalResponseSchema, {
        epochs,
        intact: epochs.every(({ faultCount }) => faultCount === 0n),
      });
    },
    async acknowledgeJournal({ node, reason }, { principal }) {
      const breaks = await store.transaction((tx) => acknowledge(tx, node, principal?.name ?? "", reason.trim()));
      return create(AcknowledgeJournalResponseSchema, { breaks: BigInt(breaks) });
    },
  });
}

async function acknowledge(tx: Tx, node: string, by: string, reason: string): Promise<number> {
  if (reason === "") throw StatusError.invalid([{ field: "reason", description: "is required: say what was found" }]);
  const row = await getNode(tx, node);
  if (row === undefined) throw notFound("node", node);
  const breaks = await acknowledgeBreaks(tx, node, by, reason);
  if (breaks === 0) {
    const message = `the journal of node "${node}" has no breaks that are not acknowledged`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "JOURNAL_HAS_NO_BREAKS" });
  }
  const what = `${breaks} ${breaks === 1 ? "break" : "breaks"} of its journal, by ${by}: ${reason}`;
  const about = { kind: "Node" as const, name: node, uid: row.uid, node };
  await insertEvents(tx, [{ ...about, topic: "/nodes/journal-acknowledged", reason: "Acknowledged", message: what }]);
  await touchNodes(tx, [node]);
  return breaks;
}

async function audited(tx: Tx, stored: StoredEpoch): Promise<JournalEpoch> {
  const { faults, ...audit } = await auditEpoch(stored, pagesOf(tx, stored));
  return create(JournalEpochSchema, {
    epoch: stored.epoch,
    storedSeq: BigInt(stored.storedSeq),
    headSeq: BigInt(stored.headSeq),
    storedAt: timestampFromDate(stored.storedAt),
    headHash: stored.headHash === null ? "" : Buffer.from(stored.headHash).toString("hex"),
    chainedFromSeq: BigInt(stored.chainedFromSeq ?? 0),
    firstKeptSeq: BigInt(audit.firstKeptSeq),
    checked: BigInt(audit.checked),
    ...acknowledgementOf(stored),
    faults: [...faults],
    faultCount: BigInt(audit.faultCount),
  });
}

function acknowledgementOf({
  acknowledgedBreaks,
  acknowledgedAt,
  acknowledgedBy: by,
  acknowledgedReason: reason,
}: StoredEpoch) {
  if (acknowledgedAt === null) return {};
  const told = { breaks: BigInt(acknowledgedBreaks), at: timestampFromDate(acknowledgedAt), by, reason };
  return { acknowledgement: create(JournalAcknowledgementSchema, told) };
}

/** Up to the watermark that was read: what is stored meanwhile is not this audit's. */
async function* pagesOf(tx: Tx, { node, epoch, storedSeq }: StoredEpoch): AsyncGenerator<readonly JournalEventRow[]> {
  for (let after = { seq: 0, id: 0 }; ;) {
    const rows = await journalEvents(tx, { node, epoch, after, limit: PAGE });
    yield rows.filter((row) => row.journalSeq! <= storedSeq);
    const last = rows.at(-1);
    if (rows.length < PAGE || last === undefined || last.journalSeq! >= storedSeq) return;
    after = { seq: last.journalSeq!, id: last.id };
  }
}
