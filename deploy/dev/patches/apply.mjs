/**
 * Mends what a dependency does that we cannot live with and cannot reach from outside: run by npm after every install, plain
 * JavaScript because Node 20 may run it. Idempotent; a version whose text is another one stops the install, so that nobody
 * believes a fix is there that is not. docs/adr/0021-patched-driver.md has the reasons.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../../", import.meta.url);
const MARK = "/* berth */";
const SELF = "deploy/dev/patches/apply.mjs";

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

/**
 * drizzle-orm's package.json is 180 KB, nearly all of it `exports`, and Node reads it anew for each of its 100 modules: 0.4 s of
 * every start of a controller. Said shorter, the same names lead to the same files (TypeScript finds the types beside them).
 */
function shortExports(exports) {
  const short = {};
  for (const [name, target] of Object.entries(exports)) {
    const file = target.import.default.replace(/\.js$/, "");
    const said = JSON.stringify(conditions(file, true));
    if (JSON.stringify(target) !== said)
      throw new Error(`drizzle-orm exports ${name} in another way: look at ${SELF} anew`);
    if (file !== name) short[name] = conditions(file, false);
  }
  return { ...short, "./*": conditions("./*", false) };
}

function conditions(file, types) {
  const both = (js, ts) => (types ? { types: `${file}.${ts}`, default: `${file}.${js}` } : `${file}.${js}`);
  return { import: both("js", "d.ts"), require: both("cjs", "d.cts"), ...(types && { ...both("js", "d.ts") }) };
}

mend("node_modules/postgres/src/connection.js", (text) => {
  if (text.startsWith(MARK)) return text;
  let mended = text;
  for (const [before, after] of CONNECTION) {
    if (mended.split(before).length !== 2)
      throw new Error(`postgres/src/connection.js is not the text that ${SELF} mends: look at it anew`);
    mended = mended.replace(before, () => after);
  }
  return `${MARK}\n${mended}`;
});

mend("node_modules/drizzle-orm/package.json", (text) => {
  const manifest = JSON.parse(text);
  if ("./*" in manifest.exports) return text;
  return `${JSON.stringify({ ...manifest, exports: shortExports(manifest.exports) }, null, 2)}\n`;
});

/** By a new file under the old name: the old one may be linked from elsewhere. */
function mend(file, change) {
  const path = fileURLToPath(new URL(file, ROOT));
  const text = readFileSync(path, "utf8");
  const mended = change(text);
  if (mended === text) return;
  writeFileSync(`${path}.berth`, mended);
  renameSync(`${path}.berth`, path);
}
