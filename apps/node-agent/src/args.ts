/** The command line of `berthd`: few options, each explained, unknown ones refused with the nearest known name. */
import { parseArgs } from "node:util";
import { StatusError } from "@berth/base";
import { suggest } from "@berth/model";

export type Command =
  | { readonly kind: "run"; readonly configFile: string | undefined }
  | { readonly kind: "help" }
  | { readonly kind: "version" };

export const USAGE = `Usage: berthd [--config FILE]

Runs the node agent of Berth: containers of this host, for the fleet's controller.

Options:
  --config FILE   YAML or JSON; see docs/reference. Environment variables such as
                  BERTH_NODE, REDIS_URL and NATS_URL win over the file.
  --version       Print the version and exit.
  --help          Print this and exit.

SIGTERM ends the agent and leaves its containers running; started again, it takes them up.
`;

const OPTIONS = {
  config: { type: "string" },
  version: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** @throws INVALID_ARGUMENT `ARGUMENT_INVALID` with what to write instead. */
export function parseCommand(argv: readonly string[]): Command {
  const known = Object.keys(OPTIONS).map((name) => `--${name}`);
  for (const argument of argv) {
    const flag = argument.split("=")[0]!;
    if (!flag.startsWith("--") || known.includes(flag)) continue;
    throw invalid(`unknown option ${flag}${suggest(flag, known)} (berthd --help explains the options)`);
  }
  try {
    const { values, positionals } = parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true });
    if (positionals.length > 0) throw new Error(`unexpected argument ${JSON.stringify(positionals[0])}`);
    if (values.help === true) return { kind: "help" };
    if (values.version === true) return { kind: "version" };
    return { kind: "run", configFile: values.config };
  } catch (error) {
    throw invalid(`${error instanceof Error ? error.message : String(error)} (berthd --help explains the options)`);
  }
}

function invalid(message: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", message, { reason: "ARGUMENT_INVALID" });
}
