/**
 * `berthd`: the node agent's process. Owns arguments, environment, signals and the exit code; everything else is `agent.ts`,
 * imported only when there is something to run, so that `--help` answers at once.
 *
 * Exit codes: 0 asked to end; 1 could not start; 2 wrong arguments or configuration.
 */
import { hasCode, StatusError } from "@berth/base";
import { parseCommand, USAGE, type Command } from "./args.ts";
import { VERSION } from "./version.ts";

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  let command: Command;
  try {
    command = parseCommand(argv);
  } catch (error) {
    return fail(error);
  }
  switch (command.kind) {
    case "help":
      process.stdout.write(USAGE);
      return 0;
    case "version":
      process.stdout.write(`berthd ${VERSION}\n`);
      return 0;
    case "run":
      return await run(command.configFile).catch(fail);
  }
}

async function run(configFile: string | undefined): Promise<number> {
  const { promise: asked, resolve: end } = Promise.withResolvers<string>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => end(signal));
  const [{ crashAt, noFailpoints }, { loadAgentConfig }, { createLogger }, { startAgent }] = await Promise.all([
    import("@berth/base"),
    import("@berth/config"),
    import("@berth/telemetry"),
    import("./agent.ts"),
  ]);
  const config = await loadAgentConfig({ file: configFile, env: process.env });
  const logger = createLogger({ name: "agent", level: config.logLevel });
  const failpoint = config.crashAt === undefined ? noFailpoints : crashAt(config.crashAt);
  const path = process.env["PATH"] ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const agent = await startAgent({ logger, failpoint, path }, config);
  const signal = await asked;
  logger.info({ signal }, "ending; containers go on");
  // A second signal, or a close that hangs, must not need a SIGKILL.
  const hurry = setTimeout(() => process.exit(1), 20_000).unref();
  process.once(signal, () => process.exit(1));
  await agent[Symbol.asyncDispose]();
  clearTimeout(hurry);
  logger.info({}, "ended");
  // Timers of foreign libraries may linger.
  process.exit(0);
}

function fail(error: unknown): number {
  const status = StatusError.from(error);
  process.stderr.write(`berthd: ${status.message}\n`);
  return hasCode(status, "INVALID_ARGUMENT") ? 2 : 1;
}
