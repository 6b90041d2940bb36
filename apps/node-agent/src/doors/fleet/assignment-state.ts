/** How far this node has taken over the controller's assignments: (store epoch, revision), durable. */
import type { Metadata } from "@berth/metadata";
import type { Origin } from "../../engine/intent.ts";

export class AssignmentState {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  /** Epoch "" and revision 0 before the first set. */
  applied(): Origin {
    const row = this.#metadata.get("SELECT store_epoch, revision FROM assignment_state");
    return { storeEpoch: String(row?.["store_epoch"] ?? ""), revision: Number(row?.["revision"] ?? 0) };
  }

  async record({ storeEpoch, revision }: Origin): Promise<void> {
    const sql = "INSERT OR REPLACE INTO assignment_state (one, store_epoch, revision) VALUES (1, ?, ?)";
    await this.#metadata.transact([{ sql, params: [storeEpoch, revision] }]);
  }
}
