/**
 * Images that campaigns want on this node: pulled, told of in the journal, and kept by their name until no longer wanted.
 *
 * The same rules as for tasks: an intent is durable with its journal entry before it is acted on, (generation, attempt)
 * orders the tries of one target, an older or equal one is ignored (D2), and a restart takes up what was accepted. An image's
 * name in the store is its pin: collection leaves alone what a name refers to.
 */
import { aborted, anySignal, hasCode, Semaphore, StatusError, type Clock, type Logger } from "@berth/base";
import type { Images, PullProgress, UnpackedImage } from "@berth/images";
import type { Journal } from "@berth/journal";
import type { SqlRow, Statement } from "@berth/metadata";
import { normaliseImage } from "@berth/model";
import type { IntentOutcome, Origin } from "./intent.ts";
import { imageEntry, type ImageStep } from "./journal-entries.ts";

export interface ImageTarget {
  readonly namespace: string;
  /** As the campaign names it. */
  readonly image: string;
  readonly campaignUid: string;
}

export interface ImageIntent extends ImageTarget {
  readonly generation: number;
  readonly attempt: number;
  readonly snapshotter: string;
  readonly origin: Origin;
}

export interface ImageKeeperDeps {
  readonly journal: Journal;
  readonly images: Pick<Images, "pull" | "remove">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onPullProgress: (progress: PullProgress) => void;
  /** May an image go? Not while a task of the namespace uses it. */
  readonly isUsed: (namespace: string, image: string) => boolean;
  /** An image has lost its name. */
  readonly onRemoved: () => void;
  /** Pulls for campaigns at a time. */
  readonly maxPulls: number;
}

interface Row extends ImageIntent {
  readonly desired: "present" | "absent";
  readonly state: "accepted" | "present" | "failed";
}

const ABSENT = new StatusError("ABORTED", "the image is no longer wanted", { reason: "PULL_CALLED_OFF" });

export class ImageKeeper implements AsyncDisposable {
  readonly #deps: ImageKeeperDeps;
  readonly #pulls: Semaphore;
  readonly #closing = new AbortController();
  readonly #running = new Map<string, { readonly cancel: AbortController; readonly done: Promise<void> }>();

  constructor(deps: ImageKeeperDeps) {
    this.#deps = deps;
    this.#pulls = new Semaphore(deps.maxPulls);
  }

  /** Takes up what was accepted before a restart. */
  recover(): void {
    for (const row of this.assignments()) {
      if (row.desired === "present" && row.state === "accepted") this.#launch(row);
    }
  }

  assignments(): readonly Row[] {
    const { metadata, owner } = this.#deps.journal;
    return metadata.all("SELECT * FROM image_assignments WHERE node = ?", owner).map(toRow);
  }

  /** @throws RESOURCE_EXHAUSTED `JOURNAL_FULL`. */
  async present(intent: ImageIntent): Promise<IntentOutcome> {
    const known = this.#find(intent);
    const order = known === undefined ? 1 : intent.generation - known.generation || intent.attempt - known.attempt;
    if (known !== undefined && (order < 0 || (order === 0 && known.desired === "present"))) {
      return order < 0 ? "stale" : "known";
    }
    const row: Row = { ...intent, desired: "present", state: "accepted" };
    await this.#deps.journal.transact([replace(row, this.#deps.journal.owner)], [entryOf(row, "accepted")]);
    await this.#cancel(intent);
    this.#launch(row);
    return "taken";
  }

  /** The campaign no longer wants it; the image goes unless another campaign or a task needs it. */
  async absent(target: ImageTarget, upTo: { readonly generation: number; readonly attempt: number }): Promise<void> {
    const known = this.#find(target);
    if (known === undefined) return;
    if ((known.generation - upTo.generation || known.attempt - upTo.attempt) > 0) return;
    await this.#cancel(target);
    const { namespace, image, campaignUid } = target;
    if (!this.#isWantedElsewhere(known)) {
      await this.#deps.images.remove(namespace, image).catch((error: unknown) => {
        if (!hasCode(error, "NOT_FOUND")) throw error;
      });
    }
    await this.#deps.journal.transact(
      [
        {
          sql: "DELETE FROM image_assignments WHERE node = ? AND campaign_uid = ? AND namespace = ? AND image = ?",
          params: [this.#deps.journal.owner, campaignUid, namespace, image],
        },
      ],
      [entryOf(known, "removed")],
    );
    this.#deps.onRemoved();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  #launch(row: Row): void {
    const key = keyOf(row);
    const cancel = new AbortController();
    const signal = anySignal(cancel.signal, this.#closing.signal);
    const done = this.#pull(row, signal)
      .catch((error: unknown) => {
        if (signal.aborted) return;
        this.#deps.logger.error({ image: row.image, err: error }, "the outcome of a pull could not be recorded");
      })
      .finally(() => {
        if (this.#running.get(key)?.cancel === cancel) this.#running.delete(key);
      });
    this.#running.set(key, { cancel, done });
  }

  async #pull(row: Row, signal: AbortSignal): Promise<void> {
    const { images, logger } = this.#deps;
    let pulled: UnpackedImage;
    try {
      using _slot = await this.#pulls.acquire(signal);
      const { namespace, image, snapshotter } = row;
      // By the name that the campaign uses, under which its target is known.
      const onProgress = (progress: PullProgress): void => this.#deps.onPullProgress({ ...progress, image });
      pulled = await images.pull({ namespace, image, snapshotter, signal, onProgress });
    } catch (error) {
      if (signal.aborted) return;
      const status = StatusError.from(error);
      logger.warn({ image: row.image, namespace: row.namespace, reason: status.reason }, status.message);
      await this.#outcome(row, "failed", { reason: status.reason, message: status.message });
      return;
    }
    await this.#outcome(row, "present", {
      digest: pulled.image.target.digest,
      sizeBytes: BigInt(pulled.sizeBytes),
    });
  }

  async #outcome(
    row: Row,
    state: "present" | "failed",
    facts: {
      readonly reason?: string;
      readonly message?: string;
      readonly digest?: string;
      readonly sizeBytes?: bigint;
    },
  ): Promise<void> {
    const change: Statement = {
      sql: `UPDATE image_assignments SET state = ? WHERE node = ? AND campaign_uid = ? AND namespace = ?
        AND image = ? AND generation = ? AND attempt = ?`,
      params: [state, this.#deps.journal.owner, row.campaignUid, row.namespace, row.image, row.generation, row.attempt],
      expect: {
        changes: 1,
        otherwise: { code: "ABORTED", reason: "PULL_SUPERSEDED", message: `pull of ${row.image} was superseded` },
      },
    };
    await this.#deps.journal.transact([change], [entryOf(row, state, facts)]);
  }

  async #cancel(target: ImageTarget): Promise<void> {
    const running = this.#running.get(keyOf(target));
    running?.cancel.abort(ABSENT);
    await Promise.race([running?.done, aborted(this.#closing.signal)]);
  }

  #isWantedElsewhere(row: Row): boolean {
    const name = normaliseImage(row.image);
    const others = this.assignments().filter(
      (other) => other.namespace === row.namespace && keyOf(other) !== keyOf(row) && other.desired === "present",
    );
    return others.some((other) => normaliseImage(other.image) === name) || this.#deps.isUsed(row.namespace, name);
  }

  #find(target: ImageTarget): Row | undefined {
    const { metadata, owner } = this.#deps.journal;
    const sql = "SELECT * FROM image_assignments WHERE node = ? AND campaign_uid = ? AND namespace = ? AND image = ?";
    const row = metadata.get(sql, owner, target.campaignUid, target.namespace, target.image);
    return row === undefined ? undefined : toRow(row);
  }
}

function keyOf({ namespace, image, campaignUid }: ImageTarget): string {
  return `${campaignUid} ${namespace} ${image}`;
}

function entryOf(
  row: Row,
  step: ImageStep,
  facts: Partial<Parameters<typeof imageEntry>[2]> = {},
): ReturnType<typeof imageEntry> {
  return imageEntry(row.namespace, step, {
    image: row.image,
    campaignUid: row.campaignUid,
    generation: BigInt(row.generation),
    attempt: row.attempt,
    ...facts,
  });
}

function replace(row: Row, owner: string): Statement {
  return {
    sql: `INSERT OR REPLACE INTO image_assignments
      (namespace, image, campaign_uid, generation, attempt, desired, state, snapshotter, store_epoch, revision, node)
      VALUES (?,?,?,?,?,?,?,?,?,?,?)`,
    params: [
      row.namespace,
      row.image,
      row.campaignUid,
      row.generation,
      row.attempt,
      row.desired,
      row.state,
      row.snapshotter,
      row.origin.storeEpoch,
      row.origin.revision,
      owner,
    ],
  };
}

function toRow(row: SqlRow): Row {
  return {
    namespace: String(row["namespace"]),
    image: String(row["image"]),
    campaignUid: String(row["campaign_uid"]),
    generation: Number(row["generation"]),
    attempt: Number(row["attempt"]),
    desired: row["desired"] === "absent" ? "absent" : "present",
    state: String(row["state"]) as Row["state"],
    snapshotter: String(row["snapshotter"]),
    origin: { storeEpoch: String(row["store_epoch"]), revision: Number(row["revision"]) },
  };
}
