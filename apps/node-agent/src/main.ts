/**
 * `berthd`: the node agent's process, and the commands that ask one which runs. Owns arguments, environment, signals and the
 * exit code; the agent is `agent.ts`, commands are in `commands/`, and either is imported only when it runs, so that `--help`
 * answers at once. Exit codes are in `commands/exit-code.ts`.
 */
import { agentExitCodeOf, exitCodeOf, reportError } from "./commands/exit-code.ts";
import type { GlobalOptions, SimulatorOptions } from "./commands/options.ts";
import { createProgram, runProgram } from "./commands/program.ts";
import type { Logger } from "@berth/base";
import type { Session } from "./commands/session.ts";

const interrupt = new AbortController();
let isAgent = false;
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // Whoever read, such as `head`, has seen enough of a command or its help; an agent does not end so.
  if (error.code === "EPIPE" && !isAgent) process.exit(0);
  throw error;
});

try {
  const { stdout, stderr } = process;
  await runProgram(createProgram({ stdout, stderr, runAgent, runSimulator, openSession }), process.argv.slice(2));
} catch (error) {
  const interrupted = interrupt.signal.aborted;
  if (!interrupted) reportError(process.stderr, error);
  process.exitCode = interrupted ? 130 : isAgent ? agentExitCodeOf(error) : exitCodeOf(error);
}

async function openSession(options: GlobalOptions): Promise<Session> {
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => interrupt.abort());
  const { openSession: open } = await import("./commands/session.ts");
  const { env, stdin, stdout, stderr } = process;
  return await open({ env, cwd: process.cwd(), stdin, stdout, stderr, signal: interrupt.signal }, options);
}

async function runAgent(configFile: string | undefined): Promise<void> {
  isAgent = true;
  const asked = askedToEnd();
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
  const agent = await startAgent(
    {
      logger,
      failpoint,
      path,
      release: process.env["BERTH_RELEASE"],
      restart: () => process.kill(process.pid, "SIGTERM"),
    },
    config,
  );
  await endWhenAsked(agent, logger, asked);
}

async function runSimulator(options: SimulatorOptions): Promise<void> {
  isAgent = true;
  const asked = askedToEnd();
  const [{ loadAgentConfig, loadSimulationProfile }, { createLogger }, { startSimulator }] = await Promise.all([
    import("@berth/config"),
    import("@berth/telemetry"),
    import("./simulate/simulator.ts"),
  ]);
  const config = await loadAgentConfig({ file: options.config, env: process.env });
  const profile = await loadSimulationProfile({
    file: options.simulateProfile,
    ...(options.simulateSet === undefined ? {} : { settings: options.simulateSet }),
  });
  const logger = createLogger({ name: "simulator", level: config.logLevel });
  const simulator = await startSimulator({ logger }, config, { count: options.simulate, profile });
  await endWhenAsked(simulator, logger, asked);
}

function askedToEnd(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
  return promise;
}

async function endWhenAsked(agent: AsyncDisposable, logger: Logger, asked: Promise<NodeJS.Signals>): Promise<void> {
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
