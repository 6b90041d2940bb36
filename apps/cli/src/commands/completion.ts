/**
 * Shell completion: small scripts for bash, zsh and fish that ask `berth __complete` for the words that may follow. Names of
 * resources come from the controller when it answers quickly; when it does not, completion stays silent.
 */
import type { Command, Option } from "commander";
import { readContextFile, userConfigPath } from "../context.ts";
import { UsageError } from "../exit-code.ts";
import type { Kind } from "../kind.ts";
import { kindByName, KINDS, namespaceKind, nodeKind, taskKind, workloadKind } from "../kinds.ts";
import { OUTPUTS } from "../output/format.ts";
import { createProgram } from "../program.ts";
import { createSession, type Session } from "../session.ts";

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_berth() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(berth __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _berth berth
`,
  zsh: `#compdef berth
_berth() {
  local -a words_found
  words_found=("\${(@f)$(berth __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a words_found
}
compdef _berth berth
`,
  fish: `complete -c berth -f -a '(berth __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
};

const LOOKUP_MS = 1_000;

export function completion(session: Session, shell: string): Promise<void> {
  const script = SCRIPTS[shell];
  if (script === undefined)
    throw new UsageError(`no completions for ${JSON.stringify(shell)}: choose bash, zsh or fish`);
  session.out(script);
  return Promise.resolve();
}

/** Prints the words that may stand in place of the last of `words`. */
export async function complete(session: Session, words: readonly string[]): Promise<void> {
  const typed = words.at(-1) ?? "";
  const line = readLine(
    createProgram(session, () => session),
    words.slice(0, -1),
  );
  const candidates = await candidatesFor(session, line, typed);
  const fitting = candidates.filter((word) => word.startsWith(typed));
  if (fitting.length > 0) session.out(fitting.join("\n"));
}

/** What was typed before the word to complete. */
interface TypedLine {
  readonly command: Command;
  readonly operands: readonly string[];
  /** The option whose value is being typed. */
  readonly pending: Option | undefined;
  /** By attribute name, as given so far. */
  readonly values: Readonly<Record<string, string>>;
}

function readLine(program: Command, words: readonly string[]): TypedLine {
  let command = program;
  let pending: Option | undefined;
  const operands: string[] = [];
  const values: Record<string, string> = {};
  for (const word of words) {
    if (pending !== undefined) {
      values[pending.attributeName()] = word;
      pending = undefined;
    } else if (word.startsWith("-")) {
      const [flag, value] = word.split("=", 2);
      const option = [...command.options, ...program.options].find(
        ({ long, short }) => flag === long || flag === short,
      );
      if (option?.required === true && value === undefined) pending = option;
      else if (option !== undefined && value !== undefined) values[option.attributeName()] = value;
    } else {
      const sub = operands.length === 0 ? command.commands.find((known) => known.name() === word) : undefined;
      if (sub === undefined) operands.push(word);
      else command = sub;
    }
  }
  return { command, operands, pending, values };
}

async function candidatesFor(session: Session, line: TypedLine, typed: string): Promise<readonly string[]> {
  const { command, operands, pending, values } = line;
  const signal = AbortSignal.any([session.signal, AbortSignal.timeout(LOOKUP_MS)]);
  const here = createSession({ ...session, signal }, values);
  try {
    if (pending !== undefined) return await valuesOf(here, pending);
    if (typed.startsWith("-")) {
      return command.options.flatMap(({ long, short }) => [long, short]).filter((flag) => flag !== undefined);
    }
    const subcommands = command.commands.map((sub) => sub.name()).filter((name) => !name.startsWith("_"));
    if (subcommands.length > 0 && operands.length === 0) return subcommands;
    if (command.name() === "help") return [...subcommandsOf(command.parent!, operands), "exit-codes"];
    return await argumentsFor(here, command, operands);
  } finally {
    await here[Symbol.asyncDispose]();
  }
}

function subcommandsOf(command: Command, path: readonly string[]): string[] {
  const found = path.reduce<Command | undefined>(
    (at, word) => at?.commands.find((sub) => sub.name() === word),
    command,
  );
  return (found?.commands ?? []).map((sub) => sub.name()).filter((name) => !name.startsWith("_"));
}

async function valuesOf(session: Session, option: Option): Promise<readonly string[]> {
  switch (option.attributeName()) {
    case "output":
      return OUTPUTS;
    case "namespace":
      return await names(session, namespaceKind as unknown as Kind);
    case "node":
      return await names(session, nodeKind as unknown as Kind);
    case "workload":
      return await names(session, workloadKind as unknown as Kind);
    case "context":
      return contextNames(session);
    default:
      return [];
  }
}

async function argumentsFor(session: Session, command: Command, given: readonly string[]): Promise<readonly string[]> {
  const first = given.length === 0;
  switch (`${command.parent?.name()} ${command.name()}`) {
    case "berth get":
    case "berth describe":
    case "berth delete":
    case "berth label":
      return first ? KINDS.map((kind) => kind.plural) : await names(session, kindByName(given[0]!));
    case "berth logs":
    case "berth exec":
    case "berth attach":
    case "berth port-forward":
      return first ? [...(await names(session, workloadOf)), ...(await names(session, taskOf))] : [];
    case "berth cp":
      return [...(await names(session, workloadOf)), ...(await names(session, taskOf))].map((name) => `${name}:/`);
    case "berth restart":
      return first ? await names(session, taskOf) : [];
    case "berth scale":
      return first ? await names(session, workloadOf) : [];
    case "berth cordon":
    case "berth uncordon":
      return first ? await names(session, nodeKind as unknown as Kind) : [];
    case "cronjob run":
    case "cronjob runs":
      return first ? await names(session, kindByName("cronjobs")) : [];
    case "webhook test":
    case "webhook deliveries":
    case "webhook rotate-secret":
    case "webhook resume":
      return first ? await names(session, kindByName("webhooks")) : [];
    case "ns use":
    case "ns delete":
      return first ? await names(session, namespaceKind as unknown as Kind) : [];
    case "context use":
    case "context set":
    case "context delete":
      return first ? contextNames(session) : [];
    case "berth completion":
      return first ? Object.keys(SCRIPTS) : [];
    default:
      return [];
  }
}

const workloadOf = workloadKind as unknown as Kind;
const taskOf = taskKind as unknown as Kind;

function contextNames(session: Session): string[] {
  return Object.keys(readContextFile(userConfigPath(session.env)).contexts);
}

async function names(session: Session, kind: Kind): Promise<string[]> {
  try {
    const { items } = await kind.list(session, { namespace: session.namespace(), selector: "" });
    return items.map((item) => item.metadata?.name ?? "");
  } catch {
    return [];
  }
}
