/**
 * What `berth` and `berthd` do alike with their command trees: name a command by its path, list it in help, say what is wrong with
 * a command line. It knows of commander only what it needs, so that this library needs none.
 */

export interface CommandNode<T> {
  readonly parent: T | null;
  readonly commands: readonly T[];
  name(): string;
}

interface Argument {
  readonly required: boolean;
  readonly variadic: boolean;
  name(): string;
}

/** The command itself, and all beneath it. */
export function allCommands<T extends CommandNode<T>>(command: T): T[] {
  return [command, ...command.commands.flatMap((sub) => allCommands(sub))];
}

/** As it is typed: `berthd images ls`. */
export function commandPath<T extends CommandNode<T>>(command: T): string {
  return command.parent === null ? command.name() : `${commandPath(command.parent)} ${command.name()}`;
}

export function commandAt<T extends CommandNode<T>>(program: T, path: readonly string[]): T | undefined {
  let command: T | undefined = program;
  for (const word of path) command = command?.commands.find((sub) => sub.name() === word);
  return command;
}

/** How a list of commands shows one: with its arguments, without a word on options, which nearly all have. */
export function commandTerm(command: { name(): string; readonly registeredArguments: readonly Argument[] }): string {
  const words = command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
    return argument.required ? `<${name}>` : `[${name}]`;
  });
  return [command.name(), ...words].join(" ");
}

/** Commander's complaint without its own prefix, in one line, and with a hint in the words of our own. */
export function usageComplaint(text: string): string {
  return text
    .replace(/^error: /, "")
    .replace(/^unknown command '(.*)'/, 'there is no command "$1"')
    .replace(/^unknown option '(.*)'/, "there is no option $1")
    .replace(/^missing required argument '(.*)'/, "<$1> is missing")
    .replace(/^required option '(.*)' not specified/, "$1 is missing")
    .replace(
      /^too many arguments for '(.*)'\. Expected (\d+) arguments? but got \d+: /,
      (_, name: string, count: string) => `${name} takes no ${count === "0" ? "arguments" : `more than ${count}`}: `,
    )
    .replace(
      /\n\(Did you mean (?:one of )?(.*?)\?\)/,
      (_, names: string) => `; did you mean ${names.replaceAll(", ", " or ")}?`,
    );
}
