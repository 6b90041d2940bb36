/** `berth journal`: is what is stored of a node's journal what the node wrote? And what was said of it when it was not. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { formatTable, type Column } from "@berth/base/terminal";
import { JournalService, VerifyJournalResponseSchema, type JournalEpoch, type JournalFault } from "@berth/proto";
import { formatDocuments, parseOutput, toManifest } from "../output/format.ts";
import { formatTime } from "../output/units.ts";
import type { Session } from "../session.ts";

const EPOCHS: readonly Column<JournalEpoch>[] = [
  { heading: "EPOCH", cell: (e) => e.epoch },
  { heading: "STORED", cell: (e) => (e.headSeq > e.storedSeq ? `${e.storedSeq}/${e.headSeq}` : String(e.storedSeq)) },
  { heading: "KEPT FROM", cell: (e) => (e.firstKeptSeq === 0n ? "-" : String(e.firstKeptSeq)) },
  { heading: "CHAINED FROM", cell: (e) => (e.chainedFromSeq === 0n ? "-" : String(e.chainedFromSeq)) },
  { heading: "CHECKED", cell: (e) => String(e.checked) },
  { heading: "FAULTS", cell: (e) => String(e.faultCount) },
  { heading: "STORED AT", cell: (e) => (e.storedAt === undefined ? "-" : timestampDate(e.storedAt).toISOString()) },
  { heading: "HEAD", cell: (e) => e.headHash || "-", wide: true },
];

interface PlacedFault {
  readonly epoch: string;
  readonly fault: JournalFault;
}

const FAULTS: readonly Column<PlacedFault>[] = [
  { heading: "EPOCH", cell: ({ epoch }) => epoch },
  { heading: "SEQ", cell: ({ fault }) => String(fault.seq) },
  { heading: "FAULT", cell: ({ fault }) => fault.kind },
  { heading: "WHAT", cell: ({ fault }) => fault.message },
];

export async function verify(session: Session, node: string, options: { readonly output: string }): Promise<void> {
  const output = parseOutput(options.output);
  const result = await session.client(JournalService).verifyJournal({ node });
  if (output === "json" || output === "yaml") {
    session.out(await formatDocuments(output, [toManifest("Journal", VerifyJournalResponseSchema, result)], true));
  } else {
    session.out(formatTable(EPOCHS, result.epochs, { wide: output === "wide" }));
    const faults = result.epochs.flatMap(({ epoch, faults: each }) => each.map((fault) => ({ epoch, fault })));
    if (faults.length > 0) session.out(`\n${formatTable(FAULTS, faults, { wide: false })}`);
    for (const { epoch, acknowledgement } of result.epochs) {
      if (acknowledgement === undefined) continue;
      const { breaks, by, at, reason } = acknowledgement;
      session.out(`${breaks} of epoch ${epoch} acknowledged by ${by} at ${formatTime(at)}: ${reason}`);
    }
  }
  if (result.intact) return;
  const message =
    `the journal of node "${node}" is not whole: Arrived faults came so from the node (look at its disk), ` +
    "Missing and Altered ones were made in the store since (look who can write to it)";
  throw new StatusError("DATA_LOSS", message, { reason: "JOURNAL_NOT_INTACT" });
}

export async function acknowledge(session: Session, node: string, options: { readonly reason: string }): Promise<void> {
  const { reason } = options;
  const { breaks } = await session.client(JournalService).acknowledgeJournal({ node, reason });
  session.out(`node/${node} ${session.paint.green("acknowledged")} (${breaks} ${breaks === 1n ? "break" : "breaks"})`);
}
