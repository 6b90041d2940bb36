/** How far this node has taken over the controller's assignments: (store epoch, revision), durable. */
import type { Journal } from "@berth/journal";
import type { Origin } from "../../engine/intent.ts";

/** One of a node: it keeps what it has read, for it is asked with every job. */
export class AssignmentState {
  readonly #journal: Pick<Journal, "metadata" | "owner">;
  #applied: Origin | undefined;

  constructor(journal: Pick<Journal, "metadata" | "owner">) {
    this.#journal = journal;
  }

  /** Epoch "" and revision 0 before the first set. */
  applied(): Origin {
    return (this.#applied ??= this.#read());
  }

  #read(): Origin {
    const { metadata, owner } = this.#journal;
    const row = metadata.get("SELECT store_epoch, revision FROM assignment_state WHERE node = ?", owner);
    return { storeEpoch: String(row?.["store_epoch"] ?? ""), revision: Number(row?.["revision"] ?? 0) };
  }

  async record({ storeEpoch, revision }: Origin): Promise<void> {
    const { metadata, owner } = this.#journal;
    const sql = "INSERT OR REPLACE INTO assignment_state (node, store_epoch, revision) VALUES (?, ?, ?)";
    await metadata.transact([{ sql, params: [owner, storeEpoch, revision] }]);
    this.#applied = { storeEpoch, revision };
  }
}
