/** The commands of `berth rollout`; what they do is in `commands/rollout.ts`. */
import type { Command } from "commander";

export function addRollout(rollout: Command, action: (name: string) => (...args: unknown[]) => Promise<void>): void {
  const add = (usage: string, summary: string): Command => rollout.command(usage).summary(summary);
  const waits = (command: Command): Command =>
    command
      .option("--wait", "wait until it is rolled out")
      .option("--timeout <duration>", "give up waiting after this long", "15m");
  add("status <workload>", "how far it is, and why it is no further")
    .option("-w, --watch", "follow it to its end; exit code 4 when it failed")
    .option("--timeout <duration>", "give up following after this long", "15m")
    .action(action("status"));
  add("history <workload>", "the revisions that are kept, and what each is")
    .option("--revision <n>", "all of this one")
    .action(action("history"));
  waits(add("undo <workload>", "make the spec what it was in an earlier revision"))
    .option("--to-revision <n>", "this one (default: the one before)")
    .option("--cause <text>", "why, for the history")
    .action(action("undo"));
  add("pause <workload>", "hold this rollout and those to come where they are").action(action("pause"));
  waits(add("resume <workload>", "let a rollout go on")).action(action("resume"));
  waits(add("restart <workload>", "start every task anew, within the rollout's bounds"))
    .option("--cause <text>", "why, for the history")
    .action(action("restart"));
}
