/** Checks the file in a thread of its own: both pragmas read all of it. */
import { parentPort, workerData } from "node:worker_threads";
import { failureOf, type Failure } from "./failure.ts";
import { openForReading } from "./sqlite.ts";

export type InspectReply =
  | { readonly kind: "checked"; readonly damage: readonly string[]; readonly dangling: readonly string[] }
  | { readonly kind: "failed"; readonly failure: Failure };

const MAX_NAMED = 20;

function check(path: string): InspectReply {
  try {
    using db = openForReading(path);
    const damage = db
      .prepare(`PRAGMA integrity_check(${MAX_NAMED})`)
      .all()
      .map((row) => String(row["integrity_check"]))
      .filter((text) => text !== "ok");
    const dangling = db
      .prepare("PRAGMA foreign_key_check")
      .all()
      .slice(0, MAX_NAMED)
      .map(
        (row) =>
          `row ${String(row["rowid"] ?? "?")} of ${String(row["table"])} names no row of ${String(row["parent"])}`,
      );
    return { kind: "checked", damage, dangling };
  } catch (error) {
    return { kind: "failed", failure: failureOf(error, path) };
  }
}

const { path } = workerData as { readonly path: string };
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
parentPort!.postMessage(check(path));
