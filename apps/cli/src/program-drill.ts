/** The commands of `berth drill`. */
import type { Command, Option } from "commander";
import { DRILL_EXAMPLES } from "./examples.ts";

export function addDrill(
  drill: Command,
  output: () => Option,
  action: (name: string) => (...args: unknown[]) => Promise<void>,
): void {
  drill
    .command("partition")
    .summary("cut nodes off from controller, NATS and Redis; they heal by themselves; exit code 1 when something broke")
    .requiredOption("-l, --selector <labels>", "which nodes: key=value,…")
    .requiredOption("--for <duration>", "how long, from 5s to 10m")
    .option("--max-nodes <n>", "refuse to hit more; never more than half of the ready ones", "1")
    .option("--dry-run", "show what would be hit, cut nothing")
    .addOption(output())
    .addHelpText("after", DRILL_EXAMPLES)
    .action(action("partition"));
}
