/** The commands of `berth webhook`; what they do is in `commands/webhook.ts`. */
import type { Command, Option } from "commander";

export function addWebhook(
  webhook: Command,
  output: () => Option,
  action: (name: string) => (...args: unknown[]) => Promise<void>,
): void {
  const add = (usage: string, summary: string): Command => webhook.command(usage).summary(summary);
  add("test <name>", "send a ping now and show the answer; exit code 1 when it was not taken").action(action("test"));
  add("deliveries <name>", "the last requests, and what became of them")
    .addOption(output())
    .action(action("deliveries"));
  add("rotate-secret <name>", "make another secret and print it; for a while both sign")
    .option("--grace <duration>", "how long the one before signs, too", "24h")
    .action(action("rotateSecret"));
  add("resume <name>", "try again at once: after a 410, or instead of waiting").action(action("resume"));
}
