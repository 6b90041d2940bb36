/**
 * The programs as JavaScript: one bundle each, their dependencies in it, in chunks, so that what is imported late is loaded late.
 *
 * Invariants:
 *  1. A program's files lie in one folder. What a module looks for beside itself (`siblingModule`, `stopper.sh`, `pause.sh`) is there, and
 *     `../package.json`, `../migrations` are where `tree.ts` puts them.
 *  2. Packages with native parts stay packages (`NATIVE`): they find their binaries by their own folder.
 *  3. The same sources give the same bytes.
 */
import { join } from "node:path";
import { build } from "esbuild";

/** Stay in `lib/node_modules`, with all that they need. */
export const NATIVE = ["koffi", "msgpackr-extract"] as const;

/** Of each program: its modules that are started by their own, as a process or a thread. */
export const ENTRY_POINTS: Readonly<Record<"agent" | "cli" | "controller", Readonly<Record<string, string>>>> = {
  agent: {
    main: "apps/node-agent/src/main.ts",
    "copy-thread": "apps/node-agent/src/workers/copy-thread.ts",
    "hash-thread": "libs/content/src/hash-thread.ts",
    "compare-thread": "libs/images/src/doctor/compare-thread.ts",
    "layer-worker": "libs/images/src/pull/layer-worker.ts",
    "release-thread": "apps/node-agent/src/upgrade/release-thread.ts",
    thread: "libs/images/src/transfer/thread.ts",
    "inspect-thread": "libs/metadata/src/inspect-thread.ts",
    "writer-thread": "libs/metadata/src/writer-thread.ts",
  },
  cli: { main: "apps/cli/src/main.ts" },
  controller: { main: "apps/controller/src/main.ts" },
};

/** Dependencies that are CommonJS call `require`, which a module has to make for itself. */
const BANNER =
  'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);';

/** Writes `<into>/<program>/*.js`. @returns the files that went in, relative to the repository. */
export async function bundlePrograms(repository: string, into: string): Promise<ReadonlySet<string>> {
  const inputs = new Set<string>();
  for (const [program, entryPoints] of Object.entries(ENTRY_POINTS)) {
    const { metafile } = await build({
      absWorkingDir: repository,
      entryPoints: { ...entryPoints },
      outdir: join(into, program),
      bundle: true,
      splitting: true,
      format: "esm",
      platform: "node",
      target: "node24",
      external: [...NATIVE],
      banner: { js: BANNER },
      // Names of classes and functions stand in logs and stack traces.
      keepNames: true,
      minifySyntax: true,
      // Licences are collected by bill.ts.
      legalComments: "none",
      metafile: true,
      logLevel: "warning",
    });
    for (const input of Object.keys(metafile.inputs)) inputs.add(input);
  }
  return inputs;
}
