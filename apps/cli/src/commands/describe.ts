/** `berth describe`: everything about a resource, what it owns, and its newest events. */
import {
  EventService,
  CampaignService,
  CronJobService,
  type Condition,
  type Event,
  type Metadata,
  type Node,
  type Task,
} from "@berth/proto";
import type { Message } from "@bufbuild/protobuf";
import { UsageError } from "../exit-code.ts";
import type { Kind } from "../kind.ts";
import { parseTarget, taskKind } from "../kinds.ts";
import { cronRunColumns, eventColumns, targetColumns, taskColumns } from "../output/columns.ts";
import { formatDocuments, toManifest } from "../output/format.ts";
import { replacementLines as nodeReplacementLines } from "../output/node-replacement.ts";
import { formatTable, type Column } from "@berth/base/terminal";
import { formatTime } from "../output/units.ts";
import type { Session } from "../session.ts";

const NEWEST_EVENTS = 15;

const CONDITION_COLUMNS: readonly Column<Condition>[] = [
  { heading: "TYPE", cell: (c) => c.type },
  { heading: "STATUS", cell: (c) => c.status },
  { heading: "SINCE", cell: (c) => formatTime(c.changedAt) },
  { heading: "REASON", cell: (c) => c.reason },
  { heading: "MESSAGE", cell: (c) => c.message || "-" },
];

export async function describe(session: Session, target: readonly string[]): Promise<void> {
  const { kind, names } = parseTarget(target);
  if (names.length === 0) throw new UsageError(`name a ${kind.aliases[0]!}: berth describe ${kind.aliases[0]!} NAME`);
  for (const [index, name] of names.entries()) {
    if (index > 0) session.out("");
    await describeOne(session, kind, name);
  }
}

async function describeOne(session: Session, kind: Kind, name: string): Promise<void> {
  const namespace = kind.namespaced ? session.namespace() : "";
  const object = await kind.get(session, namespace, name);
  const manifest = toManifest(kind.kind, kind.schema, object as unknown as Message);
  const status = (manifest["status"] ?? {}) as Record<string, unknown>;
  const conditions = (object as { status?: { conditions?: Condition[] } }).status?.conditions ?? [];
  delete status["conditions"];
  delete manifest["apiVersion"];
  session.out(`${await formatDocuments("yaml", [manifest], true)}\n`);
  section(
    session,
    "Conditions",
    indent(formatTable(CONDITION_COLUMNS, conditions, { wide: false }), conditions.length),
  );
  if (kind.kind === "Task") section(session, "Replacement", replacementLines(object as Task));
  await describeOwned(session, kind, name, kind.kind === "Node" ? (object as Node) : undefined);
  const events = await eventsOf(session, kind, namespace, object.metadata);
  section(session, "Events", indent(formatTable(eventColumns, events, { wide: false }), events.length));
}

/** "When is replacement safe?", answered. */
function replacementLines({ status }: Task): string[] {
  const { verdict, at, why } = status?.replacement ?? { verdict: "", at: undefined, why: "" };
  if (verdict === "") return [];
  const when = verdict === "later" ? `safe at ${formatTime(at)}` : verdict === "safe" ? "safe now" : "not safe";
  return [`  ${when}: ${why}`];
}

/** @param node of a node */
async function describeOwned(session: Session, kind: Kind, name: string, node: Node | undefined): Promise<void> {
  if (kind.kind === "Workload" || kind.kind === "Node") {
    const query =
      kind.kind === "Workload" ? { namespace: session.namespace(), workload: name } : { namespace: "-", node: name };
    const { items } = await taskKind.list(session, { selector: "", ...query });
    section(session, "Tasks", indent(formatTable(taskColumns(Date.now), items, { wide: false }), items.length));
    if (node?.status?.phase === "Unknown") section(session, "Replacement", nodeReplacementLines(node, items).map((line) => `  ${line}`)); // prettier-ignore
  }
  if (kind.kind === "CronJob") {
    const { items } = await session.client(CronJobService).listCronRuns({ namespace: session.namespace(), name });
    section(session, "Runs", indent(formatTable(cronRunColumns, items, { wide: false }), items.length));
  }
  if (kind.kind === "Campaign") {
    const client = session.client(CampaignService);
    const { items } = await client.listTargets({ namespace: session.namespace(), name });
    section(session, "Targets", indent(formatTable(targetColumns, items, { wide: false }), items.length));
  }
}

async function eventsOf(
  session: Session,
  kind: Kind,
  namespace: string,
  metadata: Metadata | undefined,
): Promise<readonly Event[]> {
  const client = session.client(EventService);
  const { items } = await client.listEvents({
    namespace: namespace === "" ? "-" : namespace,
    filters: eventFilters(kind, metadata?.name ?? ""),
    tail: NEWEST_EVENTS,
  });
  return items;
}

/** A workload's tasks tell why it does not run. */
function eventFilters(kind: Kind, name: string): string[] {
  if (kind.kind === "Node") return [`node==${JSON.stringify(name)}`];
  const own = `kind==${kind.kind},name==${JSON.stringify(name)}`;
  return kind.kind === "Workload" ? [own, `kind==Task,name~=${JSON.stringify(`^${name}-[a-z0-9]+$`)}`] : [own];
}

function section(session: Session, title: string, lines: readonly string[]): void {
  if (lines.length > 0) session.out(`${session.paint.bold(title)}:\n${lines.join("\n")}\n\n`);
}

function indent(table: string, rows: number): string[] {
  return rows === 0
    ? []
    : table
        .trimEnd()
        .split("\n")
        .map((line) => `  ${line}`);
}
