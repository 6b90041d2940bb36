/** The commands of `berth drill`. */
import type { Command, Option } from "commander";
import { DRILL_EXAMPLES } from "./examples.ts";

export function addDrill(
  drill: Command,
  output: () => Option,
  action: (name: string) => (...args: unknown[]) => Promise<void>,
): void {
  const add = (kind: string, summary: string): Command => {
    const command = drill
      .command(kind)
      .summary(`${summary}; exit code 1 unless it passed`)
      .requiredOption("-l, --selector <labels>", "which nodes: key=value,…");
    if (kind !== "kill") command.requiredOption("--for <duration>", "how long, from 5s to 10m");
    return command
      .option("--max-nodes <n>", "refuse to hit more; never more than half of the ready ones", "1")
      .option("--dry-run", "show what would be hit, and do nothing")
      .addOption(output())
      .addHelpText("after", DRILL_EXAMPLES)
      .action(action(kind));
  };
  add("partition", "cut nodes off from controller, NATS and Redis; they heal by themselves");
  add("pause", "stop the agents of nodes for a while (SIGSTOP); they go on by themselves");
  add("kill", "kill the agents of nodes (SIGKILL), only where something starts them again");
  drill
    .command("list")
    .summary("the last drills and what came of them, the newest first")
    .addOption(output())
    .action(action("list"));
  drill
    .command("show <name>")
    .summary("the steps and the report of a drill, also when whoever began it is gone")
    .option("-w, --watch", "go on until it has ended; exit code 1 unless it passed")
    .addOption(output())
    .action(action("show"));
}
