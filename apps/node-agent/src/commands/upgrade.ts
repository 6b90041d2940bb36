/**
 * `berthd upgrade`: this host's agent to another version. It puts the version beside the others, orders it, ends the agent for its
 * service manager to start it again, and waits for how that ended. Containers go on.
 */
import { setTimeout as delay } from "node:timers/promises";
import { StatusError, uuidv7 } from "@berth/base";
import { parseDurationMs } from "@berth/base/terminal";
import { NodeService, type NodeStatus } from "@berth/proto/host";
import { dataRootOwner } from "../data-root-lock.ts";
import { checkArchive, checkRuns, stageArchive } from "../upgrade/stage.ts";
import { VersionsFolder, type UpgradeOrder, type UpgradeResult } from "../upgrade/versions-folder.ts";
import { UsageError } from "./exit-code.ts";
import type { Session } from "./session.ts";

interface UpgradeOptions {
  readonly to?: string;
  readonly archive?: string;
  readonly sha256?: string;
  readonly timeout: string;
}

const LOOK_MS = 200;
/** Beyond the deadline: the old version's start, and what the service manager waits before it. */
const SLACK_MS = 60_000;

export async function upgrade(session: Session, options: UpgradeOptions): Promise<void> {
  const folder = VersionsFolder.of(session.env["BERTH_RELEASE"]);
  if (folder === undefined) {
    const text = "this berthd was not installed by install.sh, so there are no versions to go between";
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "NOT_VERSIONED" });
  }
  const seconds = Math.ceil((parseDurationMs(options.timeout) ?? 0) / 1_000);
  if (seconds < 1) throw new UsageError(`--timeout ${JSON.stringify(options.timeout)}: write it as 60s or 2m`);
  const node = await session.client(NodeService).getStatus({});
  refuseUnfit(folder, node);
  const to = await versionOf(session, folder, options);
  if (to === node.version) return session.out(`version ${to} runs already`);
  const order = { id: uuidv7(), to, from: node.version, seconds, handlers: node.runtimeHandlers };
  folder.place(order);
  const pid = await dataRootOwner(`${node.root}/agent.lock`);
  if (pid !== undefined) process.kill(pid, "SIGTERM");
  session.note(`${order.from} → ${to}: the agent is started anew; containers go on`);
  report(session, await ended(session, folder, order));
}

/** What runs now must be well: otherwise a new version could prove nothing. */
function refuseUnfit(folder: VersionsFolder, node: NodeStatus): void {
  const pending = folder.order();
  if (pending !== undefined) {
    const text = `an upgrade to ${pending.to} is under way; wait for its end`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "UPGRADE_UNDER_WAY" });
  }
  if (!node.leaseHeld) {
    const text = "the controller does not answer this node, so a new version could not prove itself; see berthd status";
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "LEASE_NOT_HELD" });
  }
  if (folder.current() !== node.version) {
    const text = `the agent that runs is ${node.version}, but current is ${folder.current()}: restart it first`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "NOT_CURRENT" });
  }
}

async function versionOf(session: Session, folder: VersionsFolder, options: UpgradeOptions): Promise<string> {
  const { to, archive, sha256 } = options;
  if ((to === undefined) === (archive === undefined)) {
    throw new UsageError("give either --to, a version that is installed, or --archive with --sha256");
  }
  if (to !== undefined) {
    await checkRuns(folder.tree(to), to);
    return to;
  }
  if (sha256 === undefined) throw new UsageError("--archive needs --sha256, as SHA256SUMS has it");
  await checkArchive(archive!, sha256);
  session.note(`unpacking ${archive!}`);
  return await stageArchive(folder, archive!);
}

async function ended(session: Session, folder: VersionsFolder, order: UpgradeOrder): Promise<UpgradeResult> {
  const deadline = performance.now() + order.seconds * 1_000 + SLACK_MS;
  while (performance.now() < deadline) {
    const result = folder.result();
    if (result?.id === order.id && (await answers(session, result))) return result;
    await delay(LOOK_MS, undefined, { signal: session.signal });
  }
  const text = "nothing was heard of the new version nor of the old one: look at the service (journalctl -u berthd)";
  throw new StatusError("DEADLINE_EXCEEDED", text, { reason: "UPGRADE_SILENT" });
}

/** The agent that stays has come up, and the controller answers it. */
async function answers(session: Session, { to, from, outcome }: UpgradeResult): Promise<boolean> {
  try {
    const { version, leaseHeld } = await session.client(NodeService).getStatus({});
    return leaseHeld && version === (outcome === "confirmed" ? to : from);
  } catch {
    return false;
  }
}

function report(session: Session, { to, from, outcome, reason }: UpgradeResult): void {
  if (outcome === "confirmed") return session.out(`version ${to} has proven itself`);
  const text = `version ${to} was taken back, ${from} runs again: ${reason}`;
  throw new StatusError("UNKNOWN", text, { reason: "UPGRADE_TAKEN_BACK" });
}
