/**
 * Where the programs under test lie, and how they are run: those of this repository by its own Node, as the launchers in `bin/`
 * do; those of another checkout or of a release where a test names that build.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "../../../..");

export type Program = "controller" | "node-agent" | "cli";

/** The words that run a program. */
export type Build = (program: Program, ...args: string[]) => string[];

/** A clone, with what `npm ci` has installed. */
export function checkoutBuild(root: string): Build {
  return (program, ...args) => [
    process.execPath,
    "--disable-warning=ExperimentalWarning",
    join(root, "apps", program, "src/main.ts"),
    ...args,
  ];
}

/** A release, unpacked. */
export function releaseBuild(root: string): Build {
  const launchers = { controller: "berth-controller", "node-agent": "berthd", cli: "berth" } as const;
  return (program, ...args) => [join(root, "bin", launchers[program]), ...args];
}

export const programArgv: Build = checkoutBuild(ROOT);

/** The environment of a program: what the launchers set, and nothing of Berth's own variables. */
export function programEnv(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(BERTH_|DATABASE_URL$|REDIS_URL$|NATS_URL$|NODE_TEST_CONTEXT$)/.test(name),
  );
  const launched = { MALLOC_ARENA_MAX: "2", NODE_COMPILE_CACHE: join(ROOT, "node_modules/.cache/compile") };
  return { ...Object.fromEntries(own), ...launched, ...extra };
}

/** Writes a program's configuration where only it may read. */
export function writeConfig(file: string, config: unknown): void {
  writeFileSync(file, JSON.stringify(config, null, 2), { mode: 0o600 });
}
