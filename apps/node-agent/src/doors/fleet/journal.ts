/** The journal's way to the controller: published on JetStream, and read by the controller where it saw a gap (D4). */
import { create } from "@bufbuild/protobuf";
import { noFailpoints, StatusError, type Failpoint } from "@berth/base";
import { journalFetchEndpoint, publishJournal, type Bus } from "@berth/bus";
import type { Batch, Journal, JournalTransport } from "@berth/journal";
import { JournalBatchSchema } from "@berth/proto";
import { toPublished } from "../../engine/journal-entries.ts";

/** Which shard this node's journal goes to, as the lease's answers say. */
export interface ShardSource {
  readonly shard: number | undefined;
}

export function journalTransport(
  bus: Bus,
  node: string,
  source: ShardSource,
  failpoint: Failpoint = noFailpoints,
): JournalTransport {
  return {
    async publish(batch: Batch, signal: AbortSignal): Promise<void> {
      const { shard } = source;
      if (shard === undefined) {
        throw new StatusError("UNAVAILABLE", "journal: no lease yet that names its shard", { reason: "NO_LEASE" });
      }
      failpoint("journal.before-publish");
      const entries = batch.entries.map(toPublished);
      const message = create(JournalBatchSchema, { node, epoch: batch.epoch, entries });
      await publishJournal(bus, shard, message, { signal, pass: batch.pass });
    },
  };
}

const FETCH_LIMIT = 1_000;
const FETCH_MAX_BYTES = 512 * 1024;

/** Answers the controller's questions for what it missed. */
export function serveJournal(bus: Bus, node: string, journal: Journal): Disposable {
  return bus.serve(journalFetchEndpoint, { node }, async ({ epoch, fromSeq, limit }) => {
    const count = limit === 0 ? FETCH_LIMIT : Math.min(limit, FETCH_LIMIT);
    const wanted = epoch === "" ? journal.epoch : epoch;
    const entries = journal.readEpoch(wanted, Number(fromSeq), count, FETCH_MAX_BYTES).map(toPublished);
    const firstAvailableSeq = BigInt(journal.firstAvailable(wanted));
    return create(JournalBatchSchema, { node, epoch: wanted, entries, firstAvailableSeq });
  });
}
