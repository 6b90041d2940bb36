/**
 * Mends what a dependency does that we cannot live with and cannot reach from outside: run by npm after every install, plain
 * JavaScript because Node 20 may run it. Idempotent; a version whose text is another one stops the install, so that nobody
 * believes a fix is there that is not. docs/adr/0021-patched-driver.md has the reasons.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../../", import.meta.url);
const MARK = "/* berth */";

/** postgres.js 3.4.9: what is written to, or waits on, a connection that is lost is rejected, instead of ending the process. */
const CONNECTION = [
  // A write that comes due when the socket is gone.
  [
    "    const x = socket.write(chunk, fn)\n",
    "    if (socket === null) return chunk = nextWriteTimer = null, true\n    const x = socket.write(chunk, fn)\n",
  ],
  // What was not written must not come before the next connection's first words; nor keep them from being written.
  [
    "    clearImmediate(nextWriteTimer)\n    socket.removeListener('data', data)\n    socket.removeListener('connect', connected)\n    idleTimer.cancel()",
    "    clearImmediate(nextWriteTimer)\n    chunk = nextWriteTimer = null\n    socket.removeListener('data', data)\n    socket.removeListener('connect', connected)\n    idleTimer.cancel()",
  ],
  // The ROLLBACK of a transaction whose connection is lost.
  [
    "    if (stream)\n      return queryError(q, Errors.generic('COPY_IN_PROGRESS'",
    "    if (socket === null)\n      return queryError(q, Errors.connection('CONNECTION_CLOSED', options)), true\n\n    if (stream)\n      return queryError(q, Errors.generic('COPY_IN_PROGRESS'",
  ],
  // Queries that came between a connection's error and its end.
  ["    !hadError && (query || sent.length) && error(", "    ;(query || sent.length) && error("],
];

for (const file of ["node_modules/postgres/src/connection.js"]) {
  const path = fileURLToPath(new URL(file, ROOT));
  let text = readFileSync(path, "utf8");
  if (text.startsWith(MARK)) continue;
  for (const [before, after] of CONNECTION) {
    if (text.split(before).length !== 2)
      throw new Error(`${file} is not the text that deploy/dev/patches/apply.mjs mends: look at it anew`);
    text = text.replace(before, () => after);
  }
  writeFileSync(path, `${MARK}\n${text}`);
}
