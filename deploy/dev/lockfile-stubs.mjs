/**
 * Makes package-lock.json complete for `npm ci`.
 *
 * Packages with native parts (oxlint, oxfmt, buf, …) list one optional package per platform. Where a registry lacks some
 * of them, `npm install` leaves them out of the lockfile, and `npm ci` then refuses that very file ("Missing: … from lock
 * file"). This adds an entry for each: name, version and the platform, which npm on any other platform skips without
 * asking a registry. Run it after every `npm install`:
 *
 *     node deploy/dev/lockfile-stubs.mjs
 */
import { readFileSync, writeFileSync } from "node:fs";

const OPERATING_SYSTEMS = [
  "aix",
  "android",
  "darwin",
  "freebsd",
  "linux",
  "netbsd",
  "openbsd",
  "openharmony",
  "sunos",
  "win32",
];
const PROCESSORS = {
  arm: "arm",
  armv7: "arm",
  arm64: "arm64",
  ia32: "ia32",
  loong64: "loong64",
  ppc64: "ppc64",
  riscv64: "riscv64",
  s390x: "s390x",
  x64: "x64",
};
const LIBC = { gnu: "glibc", gnueabihf: "glibc", musl: "musl", musleabihf: "musl" };

const file = new URL("../../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(file, "utf8"));
const missing = [];
for (const [from, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    if (!isLocked(from, name)) missing.push([name, version]);
  }
}
for (const [name, version] of missing) lock.packages[`node_modules/${name}`] = stub(name, version);
const rest = Object.entries(lock.packages).filter(([path]) => path !== "");
rest.sort(([a], [b]) => a.localeCompare(b, "en"));
lock.packages = { "": lock.packages[""], ...Object.fromEntries(rest) };
writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);
console.log(`package-lock.json: ${missing.length} platform packages added`);

/** Would npm find this package for one that lives at `from`, walking up its folders? */
function isLocked(from, name) {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    if (lock.packages[`${at === "" ? "" : `${at}/`}node_modules/${name}`] !== undefined) return true;
    if (at === "") return false;
  }
}

/** The platform stands in the name: `@oxlint/binding-linux-x64-musl`. A name without one is an error, not a guess. */
function stub(name, version) {
  if (!/^\d+\.\d+\.\d+[\w.+-]*$/.test(version)) throw new Error(`${name}: "${version}" is no exact version`);
  const words = name.split(/[-/]/);
  const os = words.filter((word) => OPERATING_SYSTEMS.includes(word));
  const cpu = words.filter((word) => word in PROCESSORS).map((word) => PROCESSORS[word]);
  const libc = words.filter((word) => word in LIBC).map((word) => LIBC[word]);
  if (os.length !== 1 || cpu.length !== 1) throw new Error(`${name}: no platform in its name`);
  return { version, cpu, ...(os[0] === "linux" && libc.length > 0 ? { libc } : {}), optional: true, os };
}
