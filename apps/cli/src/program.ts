/** The command tree: names, options and help; what a command does is in `commands/` and loaded when it runs. */
import { Command, Option } from "commander";
import { allCommands, commandAt, commandPath, commandTerm, usageComplaint } from "@berth/base/terminal";
import { EXIT_CODES, UsageError } from "./exit-code.ts";
import {
  ATTACH_EXAMPLES,
  CP_EXAMPLES,
  EXPLAIN_EXAMPLES,
  MORE_EXAMPLES,
  PORT_FORWARD_EXAMPLES,
  STATUS_EXAMPLES,
} from "./examples.ts";
import type { GlobalOptions } from "./global-options.ts";
import { addUpgrade } from "./program-upgrade.ts";
import { addDrill } from "./program-drill.ts";
import { addRollout } from "./program-rollout.ts";
import { addWebhook } from "./program-webhook.ts";
import type { Session } from "./session.ts";
import { VERSION } from "./version.ts";

type Action = (session: Session, ...args: never[]) => Promise<void>;
type Loader = () => Promise<Record<string, unknown>>;

const OUTPUT_HELP = "table, wide, json or yaml";

/** Where help and complaints about usage go. */
export interface ProgramOutput {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/** @param openSession called when a command runs, not for help */
export function createProgram(
  to: ProgramOutput,
  openSession: (options: GlobalOptions) => Session | Promise<Session>,
): Command {
  const program = new Command("berth")
    .description("Run containers on a fleet of hosts")
    .version(VERSION, "-V, --version", "print the version")
    .option("--context <name>", "use this context (see berth context)")
    .option("--endpoint <url>", "use this controller, with the token in BERTH_TOKEN")
    .option("-n, --namespace <name>", "act in this namespace")
    .helpOption("-h, --help", "print this help")
    .configureHelp({ sortSubcommands: false, showGlobalOptions: true, subcommandTerm: commandTerm })
    .configureOutput({
      writeOut: (text) => to.stdout.write(text),
      writeErr: (text) => to.stderr.write(text),
      outputError: (text, write) => write(`error: ${usageComplaint(text)}`),
    })
    .showSuggestionAfterError(true)
    .enablePositionalOptions()
    .helpCommand(false)
    .exitOverride();

  /** Loads the module of a command and runs the action it exports under `name`. */
  const run =
    (load: Loader, name: string) =>
    async (...args: unknown[]): Promise<void> => {
      const command = args.at(-1) as Command;
      const [session, loaded] = await Promise.all([openSession(command.optsWithGlobals()), load()]);
      const action = loaded[name] as (...given: unknown[]) => ReturnType<Action>;
      await action(session, ...args.slice(0, -1));
    };
  const add = (usage: string, summary: string): Command =>
    program.command(usage).summary(summary).description(summary).copyInheritedSettings(program);
  const output = (): Option => new Option("-o, --output <format>", OUTPUT_HELP).default("table");

  program.commandsGroup("Desired state:");
  add("apply", "make the fleet as a manifest says")
    .requiredOption("-f, --filename <path...>", "manifest files or folders; - for standard input")
    .option("--dry-run", "check and show what would change, change nothing")
    .option("--cause <text>", "why, for the history of rollouts", "")
    .option("--wait", "wait until workloads run and campaigns are done")
    .option("--timeout <duration>", "give up waiting after this long", "5m")
    .action(run(() => import("./commands/apply.ts"), "apply"));
  add("diff", "show what apply would change; exit code 1 when something would")
    .requiredOption("-f, --filename <path...>", "manifest files or folders; - for standard input")
    .action(run(() => import("./commands/diff.ts"), "diff"));
  add("run <image> [command...]", "run a workload without a manifest")
    .usage("[options] IMAGE [-- COMMAND [ARG...]]")
    .option("--name <name>", "name of the workload (default: the image's, with a suffix)")
    .option("-r, --replicas <n>", "how many tasks", "1")
    .option("--every-node", "one task on every node")
    .option("--completions <n>", "a job: so many tasks have to succeed")
    .option("--parallelism <n>", "a job: so many of them at a time")
    .option("--retries <n>", "a job: so many tries may fail")
    .option("-e, --env <name=value...>", "environment of the container")
    .option("-p, --publish <ports...>", "HOST:CONTAINER[/udp]")
    .option("-v, --volume <mounts...>", "bind mount: /on/node:/in/container[:ro]")
    .option("--cpu <quantity>", "cores, such as 500m")
    .option("--memory <quantity>", "bytes, such as 64Mi")
    .option("--disk <quantity>", "most bytes that the container may write into its own files, such as 1Gi")
    .option("--volatile", "these files need not survive a crash of the host: never sync them")
    .option("-u, --user <user>", "uid[:gid] or a name of the image")
    .option("-w, --workdir <path>", "working directory")
    .option("-i, --stdin", "give it a standard input, for berth attach -i")
    .option("--stdin-once", "with --stdin: the end of the first attach -i is the end of its input")
    .option("-t, --tty", "give it a terminal")
    .option("--network <mode>", "bridge, host or none")
    .option("--restart <policy>", "always, onFailure or never")
    .option("-l, --node-selector <labels>", "only nodes with these labels: key=value,…")
    .option("--follow", "show the output until the task ends, and end with its exit code (implies --restart never)")
    .option("--rm", "with --follow: delete the workload afterwards")
    .option("--wait", "wait until it runs")
    .option("--timeout <duration>", "give up waiting after this long", "5m")
    .action(run(() => import("./commands/run.ts"), "run"));
  add("scale <workload> <replicas>", "change how many tasks a workload has")
    .option("--wait", "wait until it is so")
    .option("--timeout <duration>", "give up waiting after this long", "5m")
    .action(run(() => import("./commands/scale.ts"), "scale"));
  add("wait <workload>", "wait until a workload runs as its spec says, or a job has ended")
    .option("--timeout <duration>", "give up waiting after this long", "15m")
    .action(run(() => import("./commands/wait.ts"), "wait"));
  const rollout = add("rollout", "see, hold, undo and restart rollouts of workloads");
  addRollout(rollout, (action) => run(() => import("./commands/rollout.ts"), action));
  add("delete [target...]", "delete resources: workload NAME, or -f manifests")
    .usage("[options] KIND NAME... | KIND/NAME... | -f FILE")
    .option("-f, --filename <path...>", "delete what these manifests name")
    .option("--ignore-not-found", "what is not there is deleted already")
    .option("--wait", "wait until it is gone, on the nodes too")
    .option("--timeout <duration>", "give up waiting after this long", "5m")
    .action(run(() => import("./commands/delete.ts"), "remove"));

  program.commandsGroup("Looking:");
  add(
    "get [target...]",
    "list resources: workloads, cronjobs, tasks, nodes, namespaces, campaigns, webhooks, registrymirrors",
  )
    .usage("[options] KIND [NAME...]")
    .addOption(output())
    .option("-w, --watch", "go on with every change")
    .option("-A, --all-namespaces", "of every namespace")
    .option("-l, --selector <labels>", "only what these labels select", "")
    .option("--workload <name>", "only tasks of this workload")
    .option("--node <name>", "only tasks on this node")
    .option("--as-of <time>", "as it was then: 2026-11-29T12:00:00Z, or 90m for so long ago")
    .action(run(() => import("./commands/get.ts"), "get"));
  add("describe [target...]", "tell all about a resource, with its events")
    .usage("[options] KIND NAME...")
    .action(run(() => import("./commands/describe.ts"), "describe"));
  add("logs <task>", "print the output of a task, or of all tasks of a workload")
    .usage("[options] TASK|WORKLOAD")
    .option("-f, --follow", "go on with what comes")
    .option("--tail <lines>", "only the last lines")
    .option("--since <duration>", "only what is younger than this")
    .option("-t, --timestamps", "begin lines with their time")
    .option("--previous", "of the execution before")
    .action(run(() => import("./commands/logs.ts"), "logs"));
  add("events", "what happened")
    .option("-f, --follow", "go on with what comes")
    .option("--filter <filter...>", "containerd's filter grammar: 'topic~=^/tasks/', 'node==node-1,severity==Warning'")
    .option("--tail <n>", "the newest so many", "50")
    .option("--as-of <time>", "as known then: 2026-11-29T12:00:00Z, or 90m for so long ago")
    .option("-A, --all-namespaces", "of every namespace, and the cluster's own")
    .addOption(output())
    .action(run(() => import("./commands/events.ts"), "events"));
  add("nodes", "list the nodes")
    .addOption(output())
    .option("-w, --watch", "go on with every change")
    .option("-l, --selector <labels>", "only what these labels select", "")
    .option("--as-of <time>", "as it was then: 2026-11-29T12:00:00Z, or 90m for so long ago")
    .action(run(() => import("./commands/get.ts"), "nodes"));
  add("top <what>", "what nodes or tasks use now, busiest first")
    .usage("[options] nodes|tasks")
    .addOption(output())
    .option("--sort <by>", "cpu, memory or name", "cpu")
    .option("--interval <duration>", "how often it is asked; rates are over this long", "2s")
    .option("--once", "look once, also on a terminal")
    .option("-l, --selector <labels>", "only nodes that these labels select", "")
    .option("-A, --all-namespaces", "tasks of every namespace")
    .action(run(() => import("./commands/top.ts"), "top"));
  add(
    "explain [target...]",
    "why a task is where it is and not elsewhere, and what would place it; of a node, when what ran there may be replaced",
  )
    .usage("[options] task NAME | workload NAME | node NAME")
    .addOption(output())
    .option("--node <name>", "everything for and against this node")
    .option("--all-nodes", "everything for and against each node")
    .addHelpText("after", EXPLAIN_EXAMPLES)
    .action(run(() => import("./commands/explain.ts"), "explain"));
  add("status", "is the fleet healthy? exit code 1 when something is to be looked at")
    .addOption(output())
    .option("--all", "every finding, not only the first of each kind")
    .addHelpText("after", STATUS_EXAMPLES)
    .action(run(() => import("./commands/status.ts"), "status"));

  program.commandsGroup("Acting:");
  add("exec <task> [command...]", "run a command in a running task (of a workload: the first)")
    .usage("[options] TASK|WORKLOAD -- COMMAND [ARG...]")
    .option("-i, --stdin", "pass standard input on")
    .option("-t, --tty", "with a terminal")
    .option("-u, --user <user>", "as this user")
    .option("-w, --workdir <path>", "in this directory")
    .option("-e, --env <name=value...>", "with these variables")
    .passThroughOptions()
    .action(run(() => import("./commands/exec.ts"), "exec"));
  add("attach <task>", "talk to a running task's own process; ends with it (ctrl-p ctrl-q leaves it)")
    .usage("[options] TASK|WORKLOAD")
    .option("-i, --stdin", "pass standard input on; its container has spec.container.stdin")
    .option("-t, --tty", "with a terminal, where the container has one")
    .option("--detach-keys <keys>", "leave the task with these keys, typed one after the other", "ctrl-p,ctrl-q")
    .addHelpText("after", ATTACH_EXAMPLES)
    .action(run(() => import("./commands/attach.ts"), "attach"));
  add("cp [paths...]", "copy files and folders into a running task, or out of it")
    .usage("FILE... TASK:PATH | TASK:PATH FILE | TASK:PATH -")
    .addHelpText("after", CP_EXAMPLES)
    .action(run(() => import("./commands/cp.ts"), "cp"));
  add("port-forward <task> <ports...>", "connect local ports to a running task's own")
    .usage("[options] TASK|WORKLOAD [LOCAL:]PORT...")
    .option("--address <address>", "listen on this local address", "127.0.0.1")
    .addHelpText("after", PORT_FORWARD_EXAMPLES)
    .action(run(() => import("./commands/port-forward.ts"), "portForward"));
  add("pull <image...>", "bring images to nodes before they are needed")
    .option("--nodes <labels>", "nodes with these labels (key=value,…); all without it")
    .option("--parallelism <n>", "so many nodes at a time", "10")
    .option("--name <name>", "name of the campaign")
    .option("--snapshotter <name>", "unpack with this snapshotter")
    .option("--timeout <duration>", "give up waiting after this long", "1h")
    .action(run(() => import("./commands/pull.ts"), "pull"));
  add("restart <task>", "end a task's execution and begin another").action(
    run(() => import("./commands/restart.ts"), "restart"),
  );
  add("cordon <node>", "place no new tasks on a node").action(run(() => import("./commands/cordon.ts"), "cordon"));
  add("drain [node...]", "move the tasks of nodes elsewhere, within their budgets; berth uncordon ends it")
    .usage("[options] NODE... | -l LABELS")
    .option("-l, --selector <labels>", "every node that these labels select")
    .option("--deadline <duration>", "after this long give up: move nothing more, stay cordoned (default: none)")
    .option("--force", "at the deadline stop what is left, whatever its budget says")
    .option("--no-wait", "ask for it and return; the same command again shows how far it is")
    .action(run(() => import("./commands/drain.ts"), "drain"));
  add("uncordon <node>", "place tasks on a node again").action(run(() => import("./commands/cordon.ts"), "uncordon"));
  add("taint [target...]", "set or remove taints: node NAME key=value:NoSchedule key-")
    .usage("[options] node NAME... KEY[=VALUE]:EFFECT... KEY[:EFFECT]-...")
    .action(run(() => import("./commands/taint.ts"), "taint"));
  const upgrade = add("upgrade", "bring the fleet to another version");
  addUpgrade(upgrade, output, (action) => run(() => import("./commands/upgrade.ts"), action));
  add("label [target...]", "set or remove labels: node NAME key=value key-")
    .usage("[options] KIND NAME KEY=VALUE... KEY-...")
    .action(run(() => import("./commands/label.ts"), "label"));

  program.commandsGroup("Setting up:");
  const ns = add("ns", "list, create, delete and choose namespaces");
  ns.command("list", { isDefault: true })
    .summary("list the namespaces")
    .addOption(output())
    .action(run(() => import("./commands/ns.ts"), "list"));
  ns.command("create <name>")
    .summary("create a namespace")
    .option("--description <text>", "what it is for")
    .action(run(() => import("./commands/ns.ts"), "create"));
  ns.command("delete <name>")
    .summary("delete a namespace and all it owns")
    .option("--wait", "wait until it is gone")
    .option("--timeout <duration>", "give up waiting after this long", "5m")
    .action(run(() => import("./commands/ns.ts"), "remove"));
  ns.command("use <name>")
    .summary("make it the context's namespace")
    .action(run(() => import("./commands/ns.ts"), "use"));
  const context = add("context", "list, set and choose controllers");
  context
    .command("list", { isDefault: true })
    .summary("list the contexts")
    .action(run(() => import("./commands/context.ts"), "list"));
  context
    .command("set <name>")
    .summary("add or change a context; the token is read from --token-file or standard input")
    .option("--url <url>", "the controller's gRPC door, http://host:port")
    .option("--token-file <path>", "file that holds the token; - for standard input")
    .option("--use", "and use it from now on")
    .action(run(() => import("./commands/context.ts"), "set"));
  context
    .command("use <name>")
    .summary("use a context from now on")
    .action(run(() => import("./commands/context.ts"), "use"));
  context
    .command("delete <name>")
    .summary("forget a context")
    .action(run(() => import("./commands/context.ts"), "remove"));
  const cronJob = add("cronjob", "run jobs by the clock now, and see what became of their times");
  cronJob
    .command("run <name>")
    .summary("begin a run now, whatever the clock says")
    .option("--wait", "wait until the job has ended; exit code 1 when it failed")
    .option("--timeout <duration>", "give up waiting after this long", "15m")
    .action(run(() => import("./commands/cronjob.ts"), "runNow"));
  cronJob
    .command("runs <name>")
    .summary("what became of its scheduled times: started, skipped, missed, suspended")
    .addOption(output())
    .action(run(() => import("./commands/cronjob.ts"), "runs"));
  const webhook = add("webhook", "look after webhooks: what they send, and with which secret");
  addWebhook(webhook, output, (action) => run(() => import("./commands/webhook.ts"), action));
  const journal = add("journal", "look after the nodes' journals");
  journal
    .command("verify <node>")
    .summary("compute the hashes of all that is stored of a node's journal again; exit code 1 when something is wrong")
    .addOption(output())
    .action(run(() => import("./commands/journal.ts"), "verify"));
  journal
    .command("acknowledge <node>")
    .summary("breaks of a node's journal were looked at: its condition JournalIntact goes until the next one")
    .requiredOption("--reason <text>", "what was found, for the record")
    .action(run(() => import("./commands/journal.ts"), "acknowledge"));
  const store = add("store", "look after the controller's store");
  store
    .command("confirm <epoch>")
    .summary("after a restore: let nodes stop what the store does not name")
    .action(run(() => import("./commands/store.ts"), "confirm"));
  store
    .command("status")
    .summary("which store this is, whether it was put back from a copy, and for whom it waits")
    .action(run(() => import("./commands/store.ts"), "status"));
  store
    .command("restored")
    .summary("say that the store was put back from a copy, where nothing else can show it: a new epoch begins")
    .option("--epoch <epoch>", "only if this is still the store's epoch")
    .action(run(() => import("./commands/store.ts"), "restored"));
  store
    .command("release <epoch> <node...>")
    .summary("after a restore: wait no longer for hosts that are off for good")
    .action(run(() => import("./commands/store.ts"), "release"));
  const drill = add("drill", "trouble on purpose, bounded in time and in nodes, and a report of what came of it");
  addDrill(drill, output, (action) => run(() => import("./commands/drill.ts"), action));
  add("completion <shell>", "print completions for bash, zsh or fish").action(
    run(() => import("./commands/completion.ts"), "completion"),
  );
  add("schema", "print the JSON Schema of manifests, for editors").action(
    run(() => import("./commands/schema.ts"), "schema"),
  );
  add("help [topic...]", "help on a command, or on exit-codes").action((topic: readonly string[]) => {
    printHelp(to, program, topic);
  });
  program
    .command("__complete [words...]", { hidden: true })
    .allowUnknownOption()
    .passThroughOptions()
    .action(run(() => import("./commands/completion.ts"), "complete"));

  program.addHelpText("after", EXAMPLES);
  for (const command of program.commands) command.addHelpText("after", MORE_EXAMPLES[command.name()] ?? "");
  for (const group of [ns, context, cronJob, webhook, journal, store, upgrade, rollout, drill])
    group.helpCommand(false).commands.forEach((sub) => settle(sub, program));
  for (const group of [ns, context]) refuseUnknown(group);
  for (const command of allCommands(program)) command.showHelpAfterError(`(see ${commandPath(command)} --help)`);
  return program;
}

/** What subcommands do not inherit by themselves. */
function settle(sub: Command, program: Command): void {
  sub.copyInheritedSettings(program).description(sub.summary());
}

/** A group whose default is `list` would take a misspelt subcommand for an argument of it. */
function refuseUnknown(group: Command): void {
  const list = group.commands.find((sub) => sub.name() === "list")!;
  list.allowExcessArguments(true).hook("preAction", async () => {
    const [word] = list.args;
    if (word === undefined) return;
    const { suggest } = await import("@berth/model");
    const known = group.commands.map((sub) => sub.name());
    throw new UsageError(`${JSON.stringify(word)} is no command of ${commandPath(group)}${suggest(word, known)}`);
  });
}

function printHelp(to: ProgramOutput, program: Command, topic: readonly string[]): void {
  if (topic.length === 1 && topic[0] === "exit-codes") {
    to.stdout.write(EXIT_CODES.map(([code, meaning]) => `${code.padStart(5)}  ${meaning}\n`).join(""));
    return;
  }
  const command = commandAt(program, topic);
  if (command === undefined) throw new UsageError(`no help on ${JSON.stringify(topic.join(" "))}: see berth --help`);
  command.outputHelp();
}

const EXAMPLES = `
Examples:
  berth apply -f web.yaml --wait        berth logs -f web
  berth get tasks -o wide               berth exec -it web-7k2mq -- sh
  berth pull demo/app:v2 --nodes zone=a berth events --filter 'topic~=^/tasks/'

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not allowed, 6 unreachable, 7 timed out waiting
(berth help exit-codes).`;
