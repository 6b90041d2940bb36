/**
 * `berth upgrade`: nodes to another version of the agent, group after group. The controller leads it: it goes on when this command
 * ends, and the same command again follows it. Each node takes a version back by itself that does not prove itself there.
 */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampDate } from "@bufbuild/protobuf/wkt";
import { StatusError, systemClock } from "@berth/base";
import { formatBar, formatTable, type Column } from "@berth/base/terminal";
import { AgentUpgradeService, UpgradeSchema, UpgradeSpecSchema, type Upgrade, type UpgradeNode } from "@berth/proto";
import { ExitWith, UsageError } from "../exit-code.ts";
import { formatDocuments, parseOutput, toManifest } from "../output/format.ts";
import { formatAge, formatTime, parseDurationMs } from "../output/units.ts";
import { persistCall } from "../persist.ts";
import type { Session } from "../session.ts";
import { UpgradeSteps } from "./upgrade-steps.ts";

export interface AgentsOptions {
  readonly to: string;
  readonly image?: string;
  readonly selector?: string;
  readonly canary: string;
  readonly batch: string;
  readonly groupBy?: string;
  readonly maxFailures: string;
  readonly timeout: string;
  readonly bake?: string;
  readonly dryRun?: boolean;
  /** False with --no-wait. */
  readonly wait: boolean;
}

const LOOK_MS = 1_000;
/** So many nodes are listed one by one; of more only those that have something to say. */
const FEW_NODES = 20;

export async function agents(session: Session, options: AgentsOptions): Promise<void> {
  const client = session.client(AgentUpgradeService);
  const spec = specOf(options);
  const { dryRun = false } = options;
  const upgrade = await client
    .startUpgrade({ spec, dryRun })
    .catch((error: unknown) => underWayAlready(session, error, spec));
  if (upgrade === undefined) return;
  const { nodes, status } = upgrade;
  if (dryRun) {
    session.out(`would upgrade ${nodes.length} nodes to ${options.to}, in ${status?.groups ?? 0} groups:`);
    session.out(formatTable(nodeColumns(session), nodes, { wide: false }).trimEnd());
    return;
  }
  session.out(`upgrade ${upgrade.name}: ${nodes.length} nodes to ${options.to}, in ${status?.groups ?? 0} groups`);
  if (options.wait) await followUpgrade(session, upgrade.name);
}

export async function status(
  session: Session,
  name: string | undefined,
  options: { readonly watch?: boolean; readonly all?: boolean; readonly output: string },
): Promise<void> {
  const output = parseOutput(options.output);
  const upgrade = await session.client(AgentUpgradeService).getUpgrade({ name: name ?? "-" });
  if (output === "json" || output === "yaml") {
    session.out(await formatDocuments(output, [toManifest("Upgrade", UpgradeSchema, upgrade)], true));
    return;
  }
  if (options.watch === true) {
    await followUpgrade(session, upgrade.name);
    return;
  }
  session.out(headLines(upgrade).join("\n"));
  const few = options.all === true || output === "wide" || upgrade.nodes.length <= FEW_NODES;
  const shown = few ? upgrade.nodes : upgrade.nodes.filter(({ phase }) => phase !== "Waiting" && phase !== "Proven");
  if (shown.length > 0) session.out(formatTable(nodeColumns(session), shown, { wide: output === "wide" }).trimEnd());
  const hidden = upgrade.nodes.length - shown.length;
  if (hidden > 0) session.note(`${hidden} nodes that wait or are done are left out: --all`);
}

export async function history(session: Session, options: { readonly output: string }): Promise<void> {
  const output = parseOutput(options.output);
  const { items } = await session.client(AgentUpgradeService).listUpgrades({});
  if (output === "json" || output === "yaml") {
    const documents = items.map((item) => toManifest("Upgrade", UpgradeSchema, item));
    session.out(await formatDocuments(output, documents, false));
    return;
  }
  if (items.length === 0) session.note("there was no upgrade yet");
  else session.out(formatTable(HISTORY_COLUMNS, items, { wide: output === "wide" }).trimEnd());
}

export async function pause(session: Session, name: string | undefined): Promise<void> {
  const upgrade = await session.client(AgentUpgradeService).pauseUpgrade({ name: name ?? "-" });
  const { underWay = 0 } = upgrade.status ?? {};
  const rest = underWay === 0 ? "" : `; ${underWay} nodes are under way and go on to their end`;
  session.out(`upgrade ${upgrade.name} ${session.paint.green("paused")}${rest}`);
}

export async function resume(
  session: Session,
  name: string | undefined,
  options: { readonly wait: boolean },
): Promise<void> {
  const upgrade = await session.client(AgentUpgradeService).resumeUpgrade({ name: name ?? "-" });
  session.out(`upgrade ${upgrade.name} ${session.paint.green("resumed")}`);
  if (options.wait) await followUpgrade(session, upgrade.name);
}

export async function cancel(session: Session, name: string | undefined): Promise<void> {
  const upgrade = await session.client(AgentUpgradeService).cancelUpgrade({ name: name ?? "-" });
  const { underWay = 0, proven = 0 } = upgrade.status ?? {};
  const rest = underWay === 0 ? "" : `; ${underWay} nodes are under way and go on to their end`;
  session.out(`upgrade ${upgrade.name} ${session.paint.green("cancelled")}${rest}`);
  if (proven > 0) session.note(`${proven} nodes stay at their new version: berth upgrade undo ${upgrade.name}`);
}

export async function undo(
  session: Session,
  name: string | undefined,
  options: { readonly wait: boolean },
): Promise<void> {
  const upgrade = await session.client(AgentUpgradeService).undoUpgrade({ name: name ?? "-" });
  session.out(`upgrade ${upgrade.name}: ${upgrade.nodes.length} nodes back to the versions that they had`);
  if (options.wait) await followUpgrade(session, upgrade.name);
}

/** As the nodes take them: nothing that could be a path, and a release that is the same everywhere. */
const VERSION_NAME = /^[0-9A-Za-z][0-9A-Za-z._+-]{0,79}$/;
const DIGESTED = /^\S+@sha256:[0-9a-f]{64}$/;

/** @throws {UsageError} what no node would take, before any is asked */
export function specOf(options: Omit<AgentsOptions, "wait">) {
  const { to, image = "" } = options;
  if (!VERSION_NAME.test(to)) throw new UsageError(`--to ${JSON.stringify(to)} is no version, such as 0.2.0`);
  if (image !== "" && !DIGESTED.test(image))
    throw new UsageError(`--image ${JSON.stringify(image)}: name it by digest, registry/repository@sha256:…`);
  return create(UpgradeSpecSchema, {
    to: options.to,
    image: options.image ?? "",
    selector: options.selector ?? "",
    canary: countOf(options.canary, "--canary"),
    batch: options.batch,
    groupBy: options.groupBy ?? "",
    maxFailures: countOf(options.maxFailures, "--max-failures"),
    timeout: durationFromMs(parseDurationMs(options.timeout, "--timeout")),
    ...(options.bake === undefined ? {} : { bake: durationFromMs(parseDurationMs(options.bake, "--bake")) }),
  });
}

function countOf(text: string, option: string): number {
  if (/^\d{1,5}$/.test(text)) return Number(text);
  throw new UsageError(`${option} ${JSON.stringify(text)} is not a number of nodes`);
}

/** The same one again is followed; that there is nothing to do is no failure. */
async function underWayAlready(
  session: Session,
  error: unknown,
  spec: { readonly to: string; readonly image: string },
): Promise<Upgrade | undefined> {
  const { reason, message } = StatusError.from(error);
  if (reason === "UPGRADE_NOTHING_TO_DO") {
    session.out(message);
    return undefined;
  }
  if (reason !== "UPGRADE_ACTIVE") throw error;
  const { items } = await session.client(AgentUpgradeService).listUpgrades({});
  const active = items.find((item) => item.status?.phase === "Running" || item.status?.phase === "Paused");
  if (active?.spec?.to !== spec.to || active.spec.image !== spec.image) throw error;
  session.note(`upgrade ${active.name} is ${active.status!.phase} already; this follows it`);
  return await session.client(AgentUpgradeService).getUpgrade({ name: active.name });
}

/** Says each step once. @throws {ExitWith} 1 when some node did not keep its version, or it was stopped or cancelled */
async function followUpgrade(session: Session, name: string): Promise<void> {
  const client = session.client(AgentUpgradeService);
  const steps = new UpgradeSteps();
  using _goesOn = onInterrupt(session, name);
  for (;;) {
    const upgrade = await persistCall(session, () => client.getUpgrade({ name }, { signal: session.signal }));
    for (const line of steps.next(upgrade)) session.out(line);
    const { phase = "", failed = 0, message = "" } = upgrade.status ?? {};
    if (phase === "Completed" && failed === 0) return;
    if (phase === "Completed" || phase === "Stopped" || phase === "Cancelled") {
      const hint = phase === "Stopped" ? `; berth upgrade resume ${name}, or berth upgrade undo ${name}` : "";
      session.note(`upgrade ${name} ${phase.toLowerCase()}${message === "" ? "" : `: ${message}`}${hint}`);
      throw new ExitWith(1);
    }
    await systemClock.sleep(LOOK_MS, session.signal);
  }
}

function onInterrupt(session: Session, name: string): Disposable {
  const tell = (): void =>
    session.note(`upgrade ${name} goes on; berth upgrade status -w follows it, berth upgrade pause holds it`);
  session.signal.addEventListener("abort", tell);
  return { [Symbol.dispose]: () => session.signal.removeEventListener("abort", tell) };
}

const BAR_WIDTH = 30;

function headLines({ name, spec, status }: Upgrade): string[] {
  if (status === undefined) return [];
  const { phase, nodes, proven, underWay, waiting, failed, skipped, group, groups, message } = status;
  const counts = [
    `${proven} of ${nodes} done`,
    `${underWay} under way`,
    `${waiting} waiting`,
    ...(failed === 0 ? [] : [`${failed} failed`]),
    ...(skipped === 0 ? [] : [`${skipped} skipped`]),
  ];
  const began = status.startedAt === undefined ? "-" : `${timestampDate(status.startedAt).toISOString().slice(0, 19)}Z`;
  const ended = status.finishedAt === undefined ? undefined : timestampDate(status.finishedAt).getTime();
  const took = ended === undefined ? "" : `, took ${formatAge(status.startedAt, ended)}`;
  return [
    `upgrade/${name}  ${phase}${spec?.to ? `  to ${spec.to}` : ""}`,
    `  nodes      ${formatBar(nodes === 0 ? 1 : proven / nodes, BAR_WIDTH)} ${counts.join(", ")}`,
    `  group      ${group === 0 ? `${groups} of ${groups}, all begun` : `${group} of ${groups}`}`,
    ...(status.bakingUntil === undefined ? [] : [`  bakes      until ${formatTime(status.bakingUntil)}`]),
    ...(message === "" ? [] : [`  why        ${message}`]),
    `  began      ${began}${took}`,
  ];
}

function nodeColumns({ paint }: Session): readonly Column<UpgradeNode>[] {
  const painted = (phase: string): string =>
    phase === "Proven" ? paint.green(phase) : phase === "TakenBack" || phase === "Silent" ? paint.red(phase) : phase;
  return [
    { heading: "GROUP", cell: ({ group }) => String(group) },
    { heading: "NODE", cell: ({ node }) => node },
    { heading: "FROM", cell: ({ from }) => from || "-" },
    { heading: "TO", cell: ({ to }) => to },
    { heading: "PHASE", cell: ({ phase }) => painted(phase) },
    { heading: "WHY", cell: ({ message }) => message || "-" },
  ];
}

const HISTORY_COLUMNS: readonly Column<Upgrade>[] = [
  { heading: "UPGRADE", cell: ({ name }) => name },
  { heading: "TO", cell: ({ spec }) => spec?.to || "(back)" },
  { heading: "STATUS", cell: ({ status }) => status?.phase ?? "" },
  { heading: "DONE", cell: ({ status }) => `${status?.proven ?? 0} of ${status?.nodes ?? 0}` },
  { heading: "FAILED", cell: ({ status }) => String(status?.failed ?? 0) },
  { heading: "AGE", cell: ({ status }) => formatAge(status?.startedAt, Date.now()) },
];
