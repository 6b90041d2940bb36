/**
 * `berth upgrade agents`: nodes to another version of the agent, group after group: a few first, then shares of what is left. Each node
 * takes a version back by itself that does not prove itself there; this stops before the next group when that happened too often.
 *
 * The nodes carry it out and keep what became of it; the sequence is this command's. Ended or killed, it leaves the group that was under
 * way to finish; the same command again goes on with the nodes that are not at the version, and one with the old version goes back.
 */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { StatusError, systemClock, uuidv7 } from "@berth/base";
import { AgentUpgradeService, type Node } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { nodeKind } from "../kinds.ts";
import { parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";

export interface UpgradeOptions {
  readonly to: string;
  readonly image?: string;
  readonly selector?: string;
  readonly canary: string;
  readonly batch: string;
  readonly groupBy?: string;
  readonly maxFailures: string;
  readonly timeout: string;
}

interface Outcome {
  readonly node: string;
  readonly failure: string | undefined;
}

const LOOK_MS = 1_000;
/** Beyond the node's own deadline: fetching, and the old version's start. */
const SLACK_MS = 300_000;

export async function agents(session: Session, options: UpgradeOptions): Promise<void> {
  const maxFailures = countOf(options.maxFailures, "--max-failures");
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const { items } = await nodeKind.list(session, { namespace: "", selector: options.selector ?? "" });
  if (items.length === 0) throw new StatusError("NOT_FOUND", "no node is selected; see berth nodes -o wide");
  const behind = items.filter(({ status }) => status?.agentVersion !== options.to);
  const silent = behind.filter(({ status }) => status?.phase === "Unknown");
  const groups = groupsOf(
    behind.filter((node) => !silent.includes(node)),
    options,
  );
  session.note(`${items.length - behind.length} of ${items.length} nodes are at ${options.to} already`);
  for (const node of silent) session.note(`node/${node.metadata!.name} is silent: left as it is`);
  const failed: string[] = [];
  let begun = 0;
  for (const [index, group] of groups.entries()) {
    session.out(`group ${index + 1} of ${groups.length}: ${group.map((node) => node.metadata!.name).join(", ")}`);
    const outcomes = await Promise.all(group.map((node) => upgradeNode(session, node, options, timeoutMs)));
    begun += group.length;
    failed.push(...outcomes.filter(({ failure }) => failure !== undefined).map(({ node }) => node));
    const left = groups.slice(index + 1).flat().length;
    if (failed.length > maxFailures && left > 0) throw stopped(failed, left);
  }
  if (failed.length > 0) throw stopped(failed, 0);
  session.out(`${begun} nodes upgraded to ${options.to}`);
}

function stopped(failed: readonly string[], left: number): StatusError {
  const rest = left === 0 ? "" : `; ${left} nodes were not begun: the same command goes on with them`;
  const message = `${failed.length} nodes did not keep the version (${failed.join(", ")})${rest}`;
  return new StatusError("UNKNOWN", message, { reason: "UPGRADE_STOPPED" });
}

/** The first is the canary; with --group-by no group has nodes of two values of that label. */
export function groupsOf(
  nodes: readonly Node[],
  { canary, batch, groupBy }: Pick<UpgradeOptions, "canary" | "batch" | "groupBy">,
): readonly (readonly Node[])[] {
  const sorted = nodes.toSorted((a, b) => (a.metadata!.name < b.metadata!.name ? -1 : 1));
  const first = countOf(canary, "--canary");
  const rest = sorted.slice(first);
  const size = batch.endsWith("%")
    ? Math.max(1, Math.ceil((sorted.length * countOf(batch.slice(0, -1), "--batch")) / 100))
    : countOf(batch, "--batch");
  if (size < 1) throw new UsageError("--batch: at least one node at a time");
  const kinds =
    groupBy === undefined
      ? [rest]
      : Object.values(Object.groupBy(rest, (node) => node.metadata!.labels[groupBy] ?? ""));
  const groups = kinds.flatMap((kind = []) =>
    Array.from({ length: Math.ceil(kind.length / size) }, (_, index) => kind.slice(index * size, (index + 1) * size)),
  );
  return first === 0 || sorted.length === 0 ? groups : [sorted.slice(0, first), ...groups];
}

function countOf(text: string, option: string): number {
  if (/^\d{1,5}$/.test(text)) return Number(text);
  throw new UsageError(`${option} ${JSON.stringify(text)} is not a number of nodes`);
}

/** Says each step once. A node that does not answer is being started anew, until the deadline says otherwise. */
async function upgradeNode(
  session: Session,
  node: Node,
  { to, image = "" }: UpgradeOptions,
  timeoutMs: number,
): Promise<Outcome> {
  const { name } = node.metadata!;
  const client = session.client(AgentUpgradeService);
  const order = { node: name, id: uuidv7(), to, image, timeout: durationFromMs(timeoutMs) };
  const deadlineMs = systemClock.nowMs() + timeoutMs + SLACK_MS;
  let shown = "";
  const show = (phase: string, message: string): void => {
    const line = `  ${name.padEnd(20)} ${phase}${message === "" ? "" : `: ${message}`}`;
    if (line !== shown) session.out((shown = line));
  };
  while (systemClock.nowMs() < deadlineMs) {
    try {
      const { phase, message } = await client.upgradeAgent(order);
      show(phase, message);
      if (phase === "Proven") return { node: name, failure: undefined };
      if (phase === "TakenBack" || phase === "Refused") return { node: name, failure: message };
    } catch (error) {
      if (session.signal.aborted || StatusError.from(error).code !== "UNAVAILABLE") throw error;
    }
    await systemClock.sleep(LOOK_MS, session.signal);
  }
  show("Silent", "it did not answer in time; see berth nodes");
  return { node: name, failure: "silent" };
}
