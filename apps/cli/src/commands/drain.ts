/**
 * `berth drain`: asks for the drain of nodes and shows how far it is. The drain is desired state of each node: it goes on when
 * this command ends, and the same command again picks it up. What holds a task is said by name.
 */
import { create, equals } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { NodeDrainSchema, NodeSpecSchema, type Node, type NodeDrain } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { follow } from "../follow.ts";
import { nodeKind } from "../kinds.ts";
import { createDrainView, type DrainView } from "../output/drain-progress.ts";
import { parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";

export interface DrainOptions {
  readonly selector?: string;
  readonly deadline?: string;
  readonly force?: boolean;
  /** False with --no-wait. */
  readonly wait: boolean;
}

export async function drain(session: Session, names: readonly string[], options: DrainOptions): Promise<void> {
  const asked = askedDrain(options);
  const nodes = await chosenNodes(session, names, options.selector);
  for (const node of nodes) await ask(session, node, asked);
  if (options.wait) await followDrains(session, nodes);
}

/** undefined: a drain that goes on already stays as it is. */
function askedDrain({ deadline, force = false }: DrainOptions): NodeDrain | undefined {
  if (deadline === undefined) {
    if (force) throw new UsageError("--force needs --deadline: stop what is left after how long? 0s: at once");
    return undefined;
  }
  return create(NodeDrainSchema, {
    deadline: durationFromMs(parseDurationMs(deadline, "--deadline")),
    onDeadline: force ? "force" : "giveUp",
  });
}

async function chosenNodes(session: Session, names: readonly string[], selector: string | undefined): Promise<Node[]> {
  if ((names.length === 0) === (selector === undefined)) {
    throw new UsageError("name nodes, or select them with -l LABELS; see berth nodes");
  }
  if (selector === undefined) {
    const plain = [...new Set(names.map((name) => name.replace(/^(node|no)\//, "")))];
    return await Promise.all(plain.map((name) => nodeKind.get(session, "", name)));
  }
  const { items } = await nodeKind.list(session, { namespace: "", selector });
  if (items.length > 0) return [...items];
  throw new StatusError("NOT_FOUND", `no node has the labels ${selector}; see berth nodes -o wide`);
}

async function ask(session: Session, node: Node, asked: NodeDrain | undefined): Promise<void> {
  const { name } = node.metadata!;
  const before = node.spec?.drain;
  const over = node.status?.drain?.phase === "GaveUp";
  const wanted = asked ?? (before === undefined || over ? create(NodeDrainSchema, { onDeadline: "giveUp" }) : before);
  if (before !== undefined && !over && equals(NodeDrainSchema, before, wanted)) {
    session.note(`node/${name} is drained already; this follows it`);
    return;
  }
  const spec = { ...(node.spec ?? create(NodeSpecSchema)), cordoned: true };
  const metadata = { ...node.metadata!, resourceVersion: 0n };
  if (over) {
    const { drain: _over, ...rest } = spec;
    await nodeKind.apply!(session, { ...node, metadata, spec: create(NodeSpecSchema, rest) }, { dryRun: false });
  }
  await nodeKind.apply!(session, { ...node, metadata, spec: { ...spec, drain: wanted } }, { dryRun: false });
  session.stderr.write(`node/${name} ${session.paint.green("draining")}${termsOf(wanted)}\n`);
}

function termsOf({ deadline, onDeadline }: NodeDrain): string {
  if (deadline === undefined) return "";
  const then = onDeadline === "force" ? "what is left is stopped" : "it gives up";
  return `; after ${Number(deadline.seconds)} s ${then}`;
}

const isOver = (node: Node): boolean => ["Drained", "GaveUp"].includes(node.status?.drain?.phase ?? "");

async function followDrains(session: Session, asked: readonly Node[]): Promise<void> {
  const names = new Set(asked.map((node) => node.metadata!.name));
  const seen = new Map<string, Node>();
  const ended: string[] = [];
  using view = createDrainView(session);
  using _goesOn = onInterrupt(session, view, [...names]);
  for await (const { event, object } of follow(session, nodeKind, { namespace: "", selector: "" })) {
    const name = object.metadata?.name ?? "";
    if (!names.has(name)) continue;
    if (event.type === "DELETED" || object.spec?.drain === undefined) {
      ended.push(`${name}: ${event.type === "DELETED" ? "the node was deleted" : "its drain was ended (uncordon)"}`);
      names.delete(name);
      seen.delete(name);
    } else seen.set(name, object);
    view.update([...seen.values()]);
    if ([...names].every((each) => seen.has(each) && isOver(seen.get(each)!))) break;
  }
  view.finish();
  summarise(session, [...seen.values()], ended);
}

function onInterrupt(session: Session, view: DrainView, names: readonly string[]): Disposable {
  const list = names.length > 3 ? `${names.slice(0, 3).join(" ")} …` : names.join(" ");
  const tell = (): void => {
    view.finish();
    session.note(`the drain goes on; berth drain ${list} follows it, berth uncordon NODE ends it`);
  };
  session.signal.addEventListener("abort", tell);
  return { [Symbol.dispose]: () => session.signal.removeEventListener("abort", tell) };
}

/** @throws when a node was not drained to the end */
function summarise(session: Session, nodes: readonly Node[], ended: readonly string[]): void {
  const gaveUp: string[] = [];
  for (const node of nodes) {
    const { name } = node.metadata!;
    const { phase, total = 0, remaining = 0, tasks = [] } = node.status?.drain ?? {};
    if (phase === "Drained") {
      session.out(
        `node/${name} ${session.paint.green("drained")}: ${total} ${total === 1 ? "task has" : "tasks have"} left`,
      );
      continue;
    }
    const [first] = tasks;
    const why = first === undefined ? "" : `; ${first.name}: ${first.message}`;
    gaveUp.push(`${name}: ${remaining} of ${total} tasks left${why}`);
  }
  const failures = [...gaveUp, ...ended];
  if (failures.length === 0) return;
  throw new StatusError("INTERNAL", `not drained: ${failures.join("\n       ")}`, { reason: "DRAIN_GAVE_UP" });
}
