/**
 * The commands and files that the documents name exist: `berth …` and `berthd …` against their command trees, `npm run …` against the scripts,
 * paths against the checkout. Code is what stands in backquotes, in fences, or indented; each test asserts that it saw some.
 */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { createProgram } from "@berth/cli/program";
import { createProgram as createBerthdProgram } from "@berth/node-agent/program";

type Command = ReturnType<typeof createProgram>;
type Option = Command["options"][number];

const ROOT = resolve(import.meta.dirname, "../..");
const DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", ...globSync("docs/**/*.md", { cwd: ROOT })];
const TOP_FOLDERS = /^(?:apps|libs|docs|test|deploy|proto|bin)\//;

interface Snippet {
  /** `file:line`. */
  readonly at: string;
  readonly code: string;
}

function snippetsOf(file: string): Snippet[] {
  const snippets: Snippet[] = [];
  let fenced = false;
  const lines = readFileSync(join(ROOT, file), "utf8").split("\n");
  lines.forEach((line, index) => {
    const at = `${file}:${index + 1}`;
    if (/^\s*```/.test(line)) fenced = !fenced;
    else if (fenced || /^ {4,}\S/.test(line)) snippets.push({ at, code: withoutRemark(line.trim()) });
    else for (const [, code = ""] of line.matchAll(/`([^`]+)`/g)) snippets.push({ at, code });
  });
  return snippets;
}

/** A remark stands behind ` #` or two blanks. */
function withoutRemark(line: string): string {
  return line.replace(/\s+#.*$/, "").replace(/ {2,}.*$/, "");
}

const SNIPPETS = DOCUMENTS.flatMap(snippetsOf);
const words = (code: string): string[] =>
  [...code.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2] ?? match[3]!);

/** Also within `$(…)`, and up to a redirection. `berth (CLI)` of a picture and `berth COMMAND` are none. */
function commandsOf(name: "berth" | "berthd", code: string): string[][] {
  return [...code.matchAll(new RegExp(`(?:^|[(|;&]\\s*)((?:bin/)?${name}\\s[^()<>|;&]*)`, "g"))]
    .map(([, line = ""]) => words(line))
    .filter((line) => line.length > 1 && !/^[A-Z]/.test(line[1]!));
}

/** The problems of a command line; none when it could be run so. */
function problemsOf(program: Command, line: readonly string[]): string[] {
  let command = program;
  let given = 0;
  const rest = [...line];
  for (let word = rest.shift(); word !== undefined && word !== "--"; word = rest.shift()) {
    if (word.startsWith("-") && word !== "-") {
      const found = flagsOf(word).map((flag) => optionNamed(command, program, flag));
      const missing = flagsOf(word).filter((_, index) => found[index] === undefined);
      if (missing.length > 0) return [`${command.name()} has no option ${missing.join(", ")}`];
      if (found.at(-1) !== "help" && (found.at(-1) as Option).required && !word.includes("=")) rest.shift();
    } else {
      const sub = given === 0 ? command.commands.find((known) => known.name() === word) : undefined;
      if (sub === undefined) given += 1;
      else command = sub;
    }
  }
  return isCallable(command, given) ? [] : [`${command.name()} takes no such arguments`];
}

function isCallable(command: Command, given: number): boolean {
  if (command.commands.length > 0) return given === 0;
  return command.registeredArguments.some(({ variadic }) => variadic) || given <= command.registeredArguments.length;
}

/** `-it` is `-i` and `-t`. */
function flagsOf(word: string): string[] {
  const name = word.split("=", 1)[0]!;
  return name.startsWith("--") ? [name] : Array.from(name.slice(1), (letter) => `-${letter}`);
}

function optionNamed(command: Command, program: Command, flag: string): Option | "help" | undefined {
  if (flag === "--help" || flag === "-h") return "help";
  return [...command.options, ...program.options].find(({ long, short }) => flag === long || flag === short);
}

const silent = { write: () => true };

void test("every berth command in the documents is one, with options that it has", () => {
  const program = createProgram({ stdout: silent, stderr: silent }, () => assert.fail("nothing is run"));
  const commands = SNIPPETS.flatMap(({ at, code }) => commandsOf("berth", code).map((line) => ({ at, line })));
  assert.ok(commands.length >= 15, `only ${commands.length} commands were found`);
  const problems = commands.flatMap(({ at, line }) =>
    problemsOf(program, line.slice(1)).map((problem) => `${at}: ${line.join(" ")}: ${problem}`),
  );
  assert.deepEqual(problems, []);
});

void test("what help shows as examples can be run so, and the fleet's verbs have some", () => {
  let printed = "";
  const program = createProgram({ stdout: { write: (text: string) => (printed += text) !== "" }, stderr: silent }, () =>
    assert.fail("nothing is run"),
  );
  const without: string[] = [];
  for (const command of [...program.commands, ...program.commands.flatMap((each) => each.commands)]) {
    const before = printed.length;
    command.outputHelp();
    if (command.parent === program && !printed.slice(before).includes("\nExamples:\n")) without.push(command.name());
  }
  const verbs = ["rollout", "logs", "events", "nodes", "top", "exec", "drain", "taint", "explain", "status", "cronjob"];
  for (const verb of [...verbs, "webhook", "journal", "store", "attach", "cp", "port-forward"])
    assert.ok(!without.includes(verb), `berth ${verb} --help has no examples`);
  const lines = printed.split("\n").filter((line) => /^ {2}berth /.test(line));
  assert.ok(lines.length > 40, `only ${lines.length} examples`);
  const problems = lines.flatMap((line) =>
    commandsOf("berth", withoutRemark(line.trim())).flatMap((each) =>
      problemsOf(program, each.slice(1)).map((problem) => `${line}: ${problem}`),
    ),
  );
  assert.deepEqual(problems, []);
});

void test("every berthd command in the documents is one, with options that it has", () => {
  const program = createBerthdProgram({
    stdout: silent,
    stderr: silent,
    runAgent: () => assert.fail("nothing is run"),
    runSimulator: () => assert.fail("nothing is run"),
    openSession: () => assert.fail("nothing is run"),
  });
  const commands = SNIPPETS.flatMap(({ at, code }) => commandsOf("berthd", code).map((line) => ({ at, line })));
  assert.ok(commands.length >= 15, `only ${commands.length} commands were found`);
  const problems = commands.flatMap(({ at, line }) =>
    problemsOf(program, line.slice(1)).map((problem) => `${at}: ${line.join(" ")}: ${problem}`),
  );
  assert.deepEqual(problems, []);
});

void test("problemsOf finds a wrong command, option and argument", () => {
  const program = createProgram({ stdout: silent, stderr: silent }, () => assert.fail("nothing is run"));
  for (const line of ["aply -f x", "get tasks --wrong", "exec -iq web -- sh", "ns drop x", "status now"]) {
    assert.equal(problemsOf(program, line.split(" ")).length, 1, line);
  }
  for (const line of ["get tasks -o wide", "-n shop exec -it web -- sh -x", "ns", "completion bash"]) {
    assert.deepEqual(problemsOf(program, line.split(" ")), [], line);
  }
});

void test("every npm script in the documents is in package.json", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: object };
  const named = SNIPPETS.flatMap(({ at, code }) =>
    [...code.matchAll(/\bnpm (?:run ([\w:-]+)|(test)\b)/g)].map((match) => ({ at, script: match[1] ?? match[2]! })),
  );
  assert.ok(named.length >= 10, `only ${named.length} scripts were found`);
  assert.deepEqual(
    named.filter(({ script }) => !Object.hasOwn(scripts, script)),
    [],
  );
});

void test("every file that the documents name exists", () => {
  const named = SNIPPETS.flatMap(({ at, code }) =>
    words(code)
      .map((word) => word.replace(/[.,:;)]+$/, ""))
      .filter((word) => TOP_FOLDERS.test(word) && !/[A-Z<…{]{2}|[<…]/.test(word))
      .map((path) => ({ at, path })),
  );
  const linked = DOCUMENTS.flatMap((file) =>
    [...readFileSync(join(ROOT, file), "utf8").matchAll(/\]\(([^)#:]+)\)/g)].map((match) => ({
      at: file,
      path: join(dirname(file), match[1]!),
    })),
  );
  assert.ok(
    named.length >= 10 && linked.length >= 3,
    `only ${named.length} paths and ${linked.length} links were found`,
  );
  assert.deepEqual(
    [...named, ...linked].filter(({ path }) =>
      /[*{]/.test(path) ? globSync(path, { cwd: ROOT }).length === 0 : !existsSync(join(ROOT, path)),
    ),
    [],
  );
});
