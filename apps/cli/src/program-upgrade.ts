/** The commands of `berth upgrade`; what they do is in `commands/upgrade.ts`. */
import type { Command, Option } from "commander";

const EXAMPLES = `
Examples:
  berth upgrade agents --to 0.3.0 --image registry.internal/berth/agent@sha256:… --bake 10m
  berth upgrade status -w
  berth upgrade undo`;

export function addUpgrade(
  upgrade: Command,
  output: () => Option,
  action: (name: string) => (...args: unknown[]) => Promise<void>,
): void {
  const add = (usage: string, summary: string): Command => upgrade.command(usage).summary(summary);
  add("agents", "nodes to another version of the agent, group after group; containers go on")
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
    .option("--bake <duration>", "wait so long after each group (default: not at all)")
    .option("--dry-run", "show which nodes would go, in which groups")
    .option("--no-wait", "start it and return; the same command again follows it")
    .addHelpText("after", EXAMPLES)
    .action(action("agents"));
  add("status [number]", "how far it is, and what became of each node (default: the newest)")
    .option("-w, --watch", "follow it to its end; exit code 1 when some node did not keep its version")
    .option("--all", "every node, however many there are")
    .addOption(output())
    .action(action("status"));
  add("history", "the upgrades that there were").addOption(output()).action(action("history"));
  add("pause [number]", "begin no further node; those under way go on to their end").action(action("pause"));
  add("resume [number]", "go on with one that was paused or has stopped; the failures it has are accepted")
    .option("--no-wait", "return at once")
    .action(action("resume"));
  add("cancel [number]", "begin no further node, for good").action(action("cancel"));
  add("undo [number]", "take its nodes back to the versions that they had")
    .option("--no-wait", "start it and return")
    .action(action("undo"));
}
