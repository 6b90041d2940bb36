/** Where the programs under test lie, and how they are run: by the repository's own Node, as the launchers in `bin/` do. */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "../../../..");

export type Program = "controller" | "node-agent" | "cli";

export function programArgv(program: Program, ...args: string[]): string[] {
  return [
    process.execPath,
    "--disable-warning=ExperimentalWarning",
    join(ROOT, "apps", program, "src/main.ts"),
    ...args,
  ];
}

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
