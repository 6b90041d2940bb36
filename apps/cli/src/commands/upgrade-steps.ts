/** What is new of an upgrade since it was looked at last, in lines for people. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Upgrade } from "@berth/proto";

export class UpgradeSteps {
  readonly #shown = new Map<string, string>();
  #group = 0;
  #standing = "";

  next({ nodes, status }: Upgrade): string[] {
    const lines: string[] = [];
    for (const { node, group, phase, message } of nodes) {
      if (phase === "Waiting") continue;
      if (group > this.#group) {
        this.#group = group;
        const names = nodes.filter((each) => each.group === group).map((each) => each.node);
        lines.push(`group ${group} of ${status?.groups ?? group}: ${named(names)}`);
      }
      const line = `  ${node.padEnd(20)} ${phase}${message === "" ? "" : `: ${message}`}`;
      if (phase === "Ordered" || this.#shown.get(node) === line) continue;
      this.#shown.set(node, line);
      lines.push(line);
    }
    const standing = standingOf(status);
    if (standing !== this.#standing && standing !== "") lines.push(standing);
    this.#standing = standing;
    return lines;
  }
}

function standingOf(status: Upgrade["status"]): string {
  if (status === undefined) return "";
  const { phase, message, bakingUntil } = status;
  if (phase === "Paused") return `paused${message === "" ? "" : `: ${message}`}`;
  if (phase === "Completed") return message;
  return bakingUntil === undefined || phase !== "Running"
    ? ""
    : `bakes until ${timestampDate(bakingUntil).toISOString()}`;
}

const MOST_NAMED = 10;

function named(names: readonly string[]): string {
  const more = names.length - MOST_NAMED;
  return names.slice(0, MOST_NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
