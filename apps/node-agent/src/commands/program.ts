/**
 * The command tree of `berthd`: names, options and help. What a command does is in its own file and loaded when it runs, so that
 * `berthd --help` answers at once. Without a command, the program is the agent.
 */
import { Command } from "commander";
import { EXIT_CODES, UsageError } from "./exit-code.ts";
import type { Session } from "./session.ts";
import { VERSION } from "../version.ts";

export interface GlobalOptions {
  readonly config?: string;
  readonly address?: string;
  readonly namespace: string;
  readonly output: string;
}

export interface ProgramDeps {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  /** Is the agent, until it is asked to end. */
  readonly runAgent: (configFile: string | undefined) => Promise<void>;
  readonly openSession: (options: GlobalOptions) => Promise<Session>;
}

type Module = Record<string, unknown>;
type Add = (parent: Command, usage: string, summary: string, examples?: string) => Command;
/** Binds a command to the function of a module, loaded when it runs. */
type Bind = (load: () => Promise<Module>, name: string) => (...args: unknown[]) => Promise<void>;

export function createProgram(deps: ProgramDeps): Command {
  const program = new Command("berthd")
    .summary("the node agent of Berth")
    .description(
      "Without a command: runs the node agent, containers of this host for the fleet's controller.\n" +
        "With one: asks the agent that runs on this host, through its socket.",
    )
    .usage("[--config FILE] | [options] COMMAND")
    .version(VERSION, "-V, --version", "print the version")
    .option(
      "--config <file>",
      "the agent's configuration, YAML or JSON; BERTH_NODE, REDIS_URL and the like win over it",
    )
    .option("--address <address>", "socket of the agent, as unix:/run/berth/berthd.sock")
    .option("-n, --namespace <name>", "act in this namespace", "default")
    .option("-o, --output <format>", "table or json", "table")
    .helpOption("-h, --help", "print this help")
    .configureHelp({ sortSubcommands: false, showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => deps.stdout.write(text),
      writeErr: (text) => deps.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, "berthd: ")),
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
    return examples === undefined ? command : command.addHelpText("after", `\nExamples:\n${examples}`);
  };
  program.action(async () => {
    if (
      program.getOptionValueSource("namespace") !== "default" ||
      program.getOptionValueSource("output") !== "default"
    ) {
      throw new UsageError("-n and -o belong to a command; there is none (berthd --help lists them)");
    }
    await deps.runAgent(program.opts<GlobalOptions>().config);
  });
  addImages(program, add, bind);
  addContent(program, add, bind);
  addSnapshots(program, add, bind);
  addLeases(program, add, bind);
  addNode(program, add, bind);
  addCare(program, add, bindLocal);
  add(program, "help [topic...]", "help on a command, or on exit-codes").action((topic: readonly string[]) => {
    deps.stdout.write(helpOn(program, topic));
  });
  program.addHelpText("after", FOOTER);
  for (const command of allCommands(program)) command.showHelpAfterError(`(see ${pathOf(command)} --help)`);
  return program;
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

const FILTER_HELP = 'containerd\'s filters, any of which may hold, such as name~=busybox or labels."a.b"==c';

function addImages(program: Command, add: Add, bind: Bind): void {
  program.commandsGroup("Images:");
  add(
    program,
    "pull <image>",
    "pull an image, unpack it, and show how far it is",
    "  berthd pull docker.io/library/busybox:1\n  berthd -n shop pull registry.test/app:v2 --snapshotter native",
  )
    .option("--snapshotter <name>", "unpack with this snapshotter (default: the agent's)")
    .option("--no-unpack", "fetch the bytes only")
    .option("--lease <id>", "add what it makes or finds to this lease")
    .action(bind(() => import("./pull.ts"), "pull"));
  const images = add(program, "images", "list images, and what is done with them");
  add(
    images,
    "ls [filter...]",
    "list the images of a namespace",
    "  berthd images ls\n  berthd -n shop images ls name~=app -o json",
  )
    .usage("[options] [FILTER...]")
    .addHelpText("after", `\nFilters: ${FILTER_HELP}`)
    .action(bind(() => import("./images.ts"), "list"));
  add(images, "inspect <image>", "tell all about an image", "  berthd images inspect busybox").action(
    bind(() => import("./inspect.ts"), "inspect"),
  );
  add(images, "history <image>", "how an image was built, newest first").action(
    bind(() => import("./inspect.ts"), "history"),
  );
  add(images, "usage", "what the images of a namespace cost").action(bind(() => import("./inspect.ts"), "usage"));
  add(
    images,
    "tag <image> <name>",
    "give an image another name",
    "  berthd images tag busybox registry.test/tools:1",
  ).action(bind(() => import("./images.ts"), "tag"));
  add(
    images,
    "rm <image...>",
    "drop names; what nothing else needs goes with the next collection",
    "  berthd images rm busybox registry.test/tools:1",
  ).action(bind(() => import("./images.ts"), "remove"));
  add(images, "prune [filter...]", "remove images that nothing uses", "  berthd images prune --older-than 7d --dry-run")
    .usage("[options] [FILTER...]")
    .option("--dangling", "only those without a tag")
    .option("--older-than <duration>", "only those not used and not pulled for so long, such as 7d")
    .option("--dry-run", "remove nothing, and say what would go")
    .action(bind(() => import("./inspect.ts"), "prune"));
  addTransfers(images, add, bind);
  add(
    images,
    "pin <image>",
    "keep an image when the disk is full, and from expiring",
    "  berthd images pin busybox --for 7d",
  )
    .option("--for <duration>", "so long (default: until it is unpinned)")
    .option("--holder <name>", "in this one's name; it stays while any holder's pin lasts")
    .action(bind(() => import("./images.ts"), "pin"));
  add(images, "unpin <image>", "take a pin away")
    .option("--holder <name>", "this one's")
    .action(bind(() => import("./images.ts"), "unpin"));
  add(images, "pins", "list the pins of a namespace").action(bind(() => import("./images.ts"), "pins"));
}

function addTransfers(images: Command, add: Add, bind: Bind): void {
  const load = (): Promise<Module> => import("./transfers.ts");
  add(
    images,
    "push <image> [target]",
    "push an image, by its own name or another",
    "  berthd images push app:v2 registry.test/app:v2",
  ).action(bind(load, "push"));
  add(
    images,
    "import <path>",
    "import an OCI or Docker archive; - for standard input",
    "  berthd images import app.tar\n  docker save app | berthd -n shop images import -",
  )
    .option("--name <image>", "the name of the archive's only image")
    .option("--base-name <repository>", "for images that the archive names by a bare tag")
    .option("--only <image...>", "only these of the archive")
    .option("--snapshotter <name>", "unpack with this snapshotter (default: the agent's)")
    .option("--no-unpack", "record and verify only")
    .option("--lease <id>", "add what it makes or finds to this lease")
    .action(bind(load, "importImages"));
  add(
    images,
    "export <path> <image...>",
    "write images to an archive; - for standard output",
    "  berthd images export app.tar app:v2\n  berthd images export - app:v2 | ssh other berthd images import -",
  )
    .option("--format <format>", "oci, which docker load reads too, or docker", "oci")
    .option("--directory", "the path is an OCI layout's folder, new or empty")
    .action(bind(load, "exportImages"));
}

function addContent(program: Command, add: Add, bind: Bind): void {
  program.commandsGroup("What they are made of:");
  const load = (): Promise<Module> => import("./content.ts");
  const content = add(program, "content", "blobs by digest, and those on their way");
  add(
    content,
    "ls [filter...]",
    "list the blobs of a namespace",
    "  berthd content ls\n  berthd content ls 'size>1000000'",
  )
    .usage("[options] [FILTER...]")
    .action(bind(load, "list"));
  add(content, "info <digest>", "tell size, age and labels of a blob").action(bind(load, "info"));
  add(content, "cat <digest>", "write a blob's bytes to standard output", "  berthd content cat sha256:… | jq .")
    .option("--offset <bytes>", "begin here", "0")
    .option("--length <bytes>", "so many only (default: to the end)", "0")
    .action(bind(load, "cat"));
  add(
    content,
    "label <digest> <label...>",
    "set labels, or take them away",
    "  berthd content label sha256:… owner=me old-",
  )
    .usage("[options] DIGEST KEY=VALUE... KEY-...")
    .action(bind(load, "label"));
  add(content, "rm <digest...>", "drop this namespace's reference").action(bind(load, "remove"));
  add(content, "ingests [filter...]", "list what is on its way").action(bind(load, "ingests"));
  add(content, "abort <ref...>", "give up what is on its way").action(bind(load, "abort"));
}

function addSnapshots(program: Command, add: Add, bind: Bind): void {
  const load = (): Promise<Module> => import("./snapshots.ts");
  const snapshots = add(program, "snapshots", "layers and containers' file systems");
  const of = (usage: string, summary: string, name: string, examples?: string): Command =>
    add(snapshots, usage, summary, examples)
      .option("--snapshotter <name>", "of this snapshotter (default: the agent's)")
      .action(bind(load, name));
  of("ls", "list the snapshots of a namespace", "list")
    .option("--parent <key>", "only the children of this one")
    .option("--kind <kind>", "only active, view or committed ones");
  of("info <key>", "tell all about a snapshot", "info");
  of("usage [key...]", "what snapshots take, without their parents; all of them without a key", "usage");
  of("mounts <key>", "the mounts of an active snapshot or a view", "mounts", "  berthd -n shop snapshots mounts web-1");
  of("rm <key...>", "remove snapshots; children first", "remove");
  add(snapshots, "snapshotters", "list the snapshotters, and why some cannot be used").action(
    bind(load, "snapshotters"),
  );
}

function addLeases(program: Command, add: Add, bind: Bind): void {
  const load = (): Promise<Module> => import("./leases.ts");
  const leases = add(program, "leases", "what stays although nothing refers to it yet");
  add(leases, "ls [filter...]", "list the leases of a namespace")
    .usage("[options] [FILTER...]")
    .action(bind(load, "list"));
  add(leases, "create [id]", "make a lease; its id is printed", "  berthd leases create --expires 24h --label owner=me")
    .option("--expires <duration>", "let it end after this long, such as 24h (default: when it is removed)")
    .option("--label <key=value...>", "with these labels")
    .action(bind(load, "create"));
  add(leases, "rm <id...>", "end leases; what only they held goes with the next collection")
    .option("--sync", "collect before it is done")
    .action(bind(load, "remove"));
  const held = "TYPE is content, snapshots/SNAPSHOTTER, ingests or images";
  add(
    leases,
    "add <id> <type> <resource>",
    "let a lease hold something",
    "  berthd leases add l1 images docker.io/library/busybox:1",
  )
    .addHelpText("after", `\n${held}.`)
    .action(bind(load, "add"));
  add(leases, "release <id> <type> <resource>", "let a lease no longer hold something")
    .addHelpText("after", `\n${held}.`)
    .action(bind(load, "release"));
  add(leases, "resources <id>", "list what a lease holds").action(bind(load, "resources"));
}

function addNode(program: Command, add: Add, bind: Bind): void {
  program.commandsGroup("The node:");
  add(program, "status", "how the agent is: version, disk, runtimes, its connection to the controller").action(
    bind(() => import("./status.ts"), "status"),
  );
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

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

function helpOn(program: Command, topic: readonly string[]): string {
  if (topic.length === 1 && topic[0] === "exit-codes") {
    return EXIT_CODES.map(([code, meaning]) => `${code.padStart(5)}  ${meaning}\n`).join("");
  }
  let command = program;
  for (const word of topic) {
    const sub = command.commands.find((candidate) => candidate.name() === word);
    if (sub === undefined) throw new UsageError(`no help on ${JSON.stringify(topic.join(" "))}: see berthd --help`);
    command = sub;
  }
  return command === program ? `${command.helpInformation()}${FOOTER}\n` : command.helpInformation();
}

const FOOTER = `
Examples:
  berthd --config /etc/berth/agent.yaml       berthd -n shop images ls
  berthd pull docker.io/library/busybox:1     berthd content cat sha256:…

SIGTERM ends the agent and leaves its containers running; started again, it takes them up.
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not allowed, 6 unreachable (berthd help exit-codes).`;
