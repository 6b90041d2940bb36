/**
 * The command tree of `berthd`: names, options and help. What a command does is in its own file and loaded when it runs, so that
 * `berthd --help` answers at once. Without a command, the program is the agent.
 */
import { Command } from "commander";
import { allCommands, commandAt, commandPath, commandTerm, usageComplaint } from "@berth/base/terminal";
import { EXIT_CODES, UsageError } from "./exit-code.ts";
import type { GlobalOptions, SimulatorOptions } from "./options.ts";
import { addContent, addImages, addLeases, addSnapshots } from "./program-stores.ts";
import type { Session } from "./session.ts";
import { VERSION } from "../version.ts";

export interface ProgramDeps {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  /** Is the agent, until it is asked to end. */
  readonly runAgent: (configFile: string | undefined) => Promise<void>;
  /** Is many agents that only pretend, until it is asked to end. */
  readonly runSimulator: (options: SimulatorOptions) => Promise<void>;
  readonly openSession: (options: GlobalOptions) => Promise<Session>;
}

export type Module = Record<string, unknown>;
export type Add = (parent: Command, usage: string, summary: string, examples?: string) => Command;
/** Binds a command to the function of a module, loaded when it runs. */
export type Bind = (load: () => Promise<Module>, name: string) => (...args: unknown[]) => Promise<void>;

const MAX_SIMULATED = 20_000;

/** A command line is looked at twice, hence the set. */
const gather = (value: string, before: readonly string[] = []): readonly string[] => [...new Set([...before, value])];

export function createProgram(deps: ProgramDeps): Command {
  const program = new Command("berthd")
    .summary("the node agent of Berth")
    .description(
      "Without a command: runs the node agent, containers of this host for the fleet's controller.\n" +
        "With one: asks the agent that runs on this host, through its socket.",
    )
    .usage("[--config FILE] | --simulate N | [options] COMMAND")
    .version(VERSION, "-V, --version", "print the version")
    .option(
      "--config <file>",
      "the agent's configuration, YAML or JSON; BERTH_NODE, REDIS_URL and the like win over it",
    )
    .option("--address <address>", "socket of the agent, as unix:/run/berth/berthd.sock")
    .option(
      "--simulate <n>",
      "be N agents at once, sim-0001 and so on, that speak to the controller as real ones do and run nothing",
    )
    .option("--simulate-profile <file>", "what they pretend: sizes, latencies, failures (docs/operations/simulate.md)")
    .option("--simulate-set <field=value>", "one field of that profile, such as start.failures=0.02; repeat it", gather)
    .option("-n, --namespace <name>", "act in this namespace", "default")
    .option("-o, --output <format>", "table or json", "table")
    .helpOption("-h, --help", "print this help")
    .configureHelp({ sortSubcommands: false, showGlobalOptions: true, subcommandTerm: commandTerm })
    .configureOutput({
      writeOut: (text) => deps.stdout.write(text),
      writeErr: (text) => deps.stderr.write(text),
      outputError: (text, write) => write(`berthd: ${usageComplaint(text)}`),
    })
    .helpCommand(false)
    .exitOverride();
  const bind: Bind =
    (load, name) =>
    async (...args) => {
      const command = args.at(-1) as Command;
      const [session, loaded] = await Promise.all([deps.openSession(command.optsWithGlobals()), load()]);
      const action = loaded[name] as (...given: unknown[]) => Promise<void>;
      await using _ = session;
      await action(session, ...args.slice(0, -1));
    };
  /** For commands that need no agent: they read its configuration themselves. */
  const bindLocal: Bind =
    (load, name) =>
    async (...args) => {
      const globals = (args.at(-1) as Command).optsWithGlobals<GlobalOptions>();
      const [session, loaded] = await Promise.all([deps.openSession(globals), load()]);
      const action = loaded[name] as (...given: unknown[]) => Promise<void>;
      await using _ = session;
      await action(session, globals, ...args.slice(0, -1));
    };
  const add: Add = (parent, usage, summary, examples) => {
    const command = parent.command(usage).summary(summary).description(summary).copyInheritedSettings(program);
    // As `berth` calls its lists.
    if (command.name() === "ls") command.alias("list");
    return examples === undefined ? command : command.addHelpText("after", `\nExamples:\n${examples}`);
  };
  program.action(async () => {
    if (
      program.getOptionValueSource("namespace") !== "default" ||
      program.getOptionValueSource("output") !== "default"
    ) {
      throw new UsageError("-n and -o belong to a command; there is none (berthd --help lists them)");
    }
    const options = program.opts<GlobalOptions>();
    const simulator = simulatorOptions(options);
    if (simulator !== undefined) return await deps.runSimulator(simulator);
    await deps.runAgent(options.config);
  });
  addImages(program, add, bind);
  addContent(program, add, bind);
  addSnapshots(program, add, bind);
  addLeases(program, add, bind);
  addNode(program, add, bind);
  addCare(program, add, bindLocal);
  program.commandsGroup("More:");
  add(program, "help [topic...]", "help on a command, or on exit-codes").action((topic: readonly string[]) => {
    printHelp(deps, program, topic);
  });
  program.addHelpText("after", FOOTER);
  for (const command of allCommands(program))
    command.helpCommand(false).showHelpAfterError(`(see ${commandPath(command)} --help)`);
  return program;
}

/** The options of `--simulate`, when it was given. */
function simulatorOptions(options: GlobalOptions): SimulatorOptions | undefined {
  const { simulate, simulateSet = [] } = options;
  if (simulate === undefined) {
    if (options.simulateProfile === undefined && simulateSet.length === 0) return undefined;
    throw new UsageError("--simulate-profile and --simulate-set say what --simulate N pretends; give that, too");
  }
  const count = Number(simulate);
  if (!Number.isInteger(count) || count < 1 || count > MAX_SIMULATED) {
    throw new UsageError(`--simulate ${JSON.stringify(simulate)} is not a number of agents from 1 to ${MAX_SIMULATED}`);
  }
  const odd = simulateSet.find((setting) => !/^[a-zA-Z]+(\.[a-zA-Z]+)*=/.test(setting));
  if (odd === undefined) return { ...options, simulate: count };
  throw new UsageError(`--simulate-set ${JSON.stringify(odd)}: write it as FIELD=VALUE, such as start.failures=0.02`);
}

/** Runs a command line; refuses an unknown command by name before its options are looked at. */
export async function runProgram(program: Command, argv: readonly string[]): Promise<void> {
  const [word] = program.parseOptions([...argv]).operands;
  const known = program.commands.map((command) => command.name());
  if (word !== undefined && !known.includes(word)) {
    const { suggest } = await import("@berth/model");
    throw new UsageError(
      `there is no command ${JSON.stringify(word)}${suggest(word, known)} (berthd --help lists them)`,
    );
  }
  await program.parseAsync([...argv], { from: "user" });
}

function addNode(program: Command, add: Add, bind: Bind): void {
  program.commandsGroup("The node:");
  add(program, "status", "how the agent is: version, disk, runtimes, its connection to the controller").action(
    bind(() => import("./status.ts"), "status"),
  );
  add(
    program,
    "tasks [name]",
    "list what this node runs, also while it is cut off: what is fenced, and until when it runs; or tell one",
    "  berthd -n shop tasks\n  berthd tasks -A -o json\n  berthd -n shop tasks web-7k2mq",
  )
    .usage("[options] [NAME]")
    .option("-A, --all-namespaces", "of every namespace")
    .action(bind(() => import("./tasks.ts"), "list"));
  const load = (): Promise<Module> => import("./gc.ts");
  const gc = add(
    program,
    "gc",
    "remove what nothing refers to, in all namespaces",
    "  berthd gc --dry-run\n  berthd gc status",
  )
    .option("--dry-run", "change nothing, and say what would go and why")
    .option("--details", "say what went, and what stayed and why")
    .action(bind(load, "run"));
  add(
    program,
    "upgrade",
    "go to another version of the agent, and back by itself if that does not prove itself; containers go on",
    "  berthd upgrade --archive berth-0.2.0-linux-x64.tar.gz --sha256 9f86d0…\n  berthd upgrade --to 0.1.0",
  )
    .option("--to <version>", "a version that is installed beside the current one")
    .option("--archive <file>", "a release; it is put beside the current one first")
    .option("--sha256 <hash>", "of the archive")
    .option("--timeout <duration>", "so long may it take to prove itself", "60s")
    .action(bind(() => import("./upgrade.ts"), "upgrade"));
  add(gc, "status", "what collections have done since the agent started").action(bind(load, "status"));
}

function addCare(program: Command, add: Add, bindLocal: Bind): void {
  program.commandsGroup("Care of the node, also without its agent (they read --config as it does):");
  add(
    program,
    "doctor",
    "look over the host and the data root; fails if something must be mended",
    "  berthd --config /etc/berth/agent.yaml doctor\n  berthd doctor --quiet -o json",
  )
    .option("-q, --quiet", "only what is not well")
    .action(bindLocal(() => import("./doctor.ts"), "doctor"));
  add(
    program,
    "verify",
    "read all blobs (and layers) again, and mend them from their registries",
    "  berthd verify --rate 50M\n  berthd verify --layers --repair",
  )
    .option("--repair", "fetch bad blobs again, and extract bad layers again")
    .option("--layers", "also extract every layer beside the one that is there, and compare both")
    .option("--rate <bytes>", "read no more a second, such as 50M")
    .option("--after <digest>", "go on after this blob, where an earlier run was interrupted")
    .action(bindLocal(() => import("./verify.ts"), "verify"));
  add(
    program,
    "backup <file>",
    "copy the agent's metadata, also while it runs (docs/operations/backup-node.md tells how to restore)",
    "  berthd backup /var/backups/berth-metadata.db",
  ).action(bindLocal(() => import("./backup.ts"), "backup"));
}

function printHelp(deps: ProgramDeps, program: Command, topic: readonly string[]): void {
  if (topic.length === 1 && topic[0] === "exit-codes") {
    deps.stdout.write(EXIT_CODES.map(([code, meaning]) => `${code.padStart(5)}  ${meaning}\n`).join(""));
    return;
  }
  const command = commandAt(program, topic);
  if (command === undefined) throw new UsageError(`no help on ${JSON.stringify(topic.join(" "))}: see berthd --help`);
  command.outputHelp();
}

const FOOTER = `
Examples:
  berthd --config /etc/berth/agent.yaml       berthd -n shop images ls
  berthd pull docker.io/library/busybox:1     berthd content cat sha256:…
  berthd --config sim.yaml --simulate 1000    a fleet to try a policy on

SIGTERM ends the agent and leaves its containers running; started again, it takes them up.
Every field of its configuration: docs/reference/agent-configuration.md.
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not allowed, 6 unreachable (berthd help exit-codes).`;
