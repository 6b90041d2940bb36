/** The options of `berth upgrade`; what it does is in `commands/upgrade.ts`. */
import type { Command } from "commander";

export function addUpgrade(upgrade: Command, action: (name: string) => (...args: unknown[]) => Promise<void>): void {
  upgrade
    .command("agents")
    .summary("nodes to another version of the agent, group after group; containers go on")
    .description(
      "Nodes to another version of the agent, group after group. Each takes a version back by itself that does not prove itself\n" +
        "there; the next group is begun when no more than --max-failures did. The same command again goes on where it was.",
    )
    .requiredOption("--to <version>", "the version, as berth nodes -o wide shows it")
    .option(
      "--image <reference>",
      "holds its release, registry/repository@sha256:… (default: it is on the nodes already)",
    )
    .option("-l, --selector <labels>", "only nodes that these labels select")
    .option("--canary <n>", "so many nodes first, by themselves", "1")
    .option("--batch <n>", "so many nodes at a time afterwards, or a share such as 10%", "10%")
    .option("--group-by <label>", "no group has nodes of two values of this label, such as zone")
    .option("--max-failures <n>", "stop when more nodes than this did not keep it", "0")
    .option("--timeout <duration>", "so long may a node's new agent take to prove itself", "60s")
    .action(action("agents"));
}
