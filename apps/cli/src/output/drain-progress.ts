/** How far drains are: bars that are redrawn on a terminal, elsewhere a line for each thing that is new. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { createLiveLines, formatBar, formatSeconds } from "@berth/base/terminal";
import type { DrainingTask, Node } from "@berth/proto";
import type { Session } from "../session.ts";

export interface DrainView extends Disposable {
  update(nodes: readonly Node[]): void;
  /** Leaves the last state standing. */
  finish(): void;
}

const BAR_WIDTH = 20;
/** Of a node; what holds the drain up comes first. */
const MOST_TASKS = 5;

export function createDrainView(session: Session): DrainView {
  return session.stderr.isTTY ? createBars(session) : createLines(session);
}

function createBars(session: Session): DrainView {
  const live = createLiveLines(session.stderr);
  return {
    update: (nodes) => live.update((columns) => drainLines(session, nodes, columns, Date.now())),
    finish: () => live.finish(),
    [Symbol.dispose]: () => live[Symbol.dispose](),
  };
}

export function drainLines(
  { paint }: Pick<Session, "paint">,
  nodes: readonly Node[],
  columns: number,
  nowMs: number,
): string[] {
  const width = Math.max(0, ...nodes.map((node) => node.metadata!.name.length));
  return nodes.flatMap((node) => {
    const { phase = "Draining", total = 0, remaining = 0, tasks = [], deadlineAt } = node.status?.drain ?? {};
    const gone = total - remaining;
    const share = phase === "Drained" ? 1 : total === 0 ? 0 : gone / total;
    const colour = phase === "Drained" ? paint.green : phase === "Draining" ? paint.blue : paint.yellow;
    const seconds = deadlineAt === undefined ? 0 : Math.ceil((timestampDate(deadlineAt).getTime() - nowMs) / 1_000);
    const until = phase === "Draining" && seconds > 0 ? `, deadline in ${formatSeconds(seconds)}` : "";
    const head = `${node.metadata!.name.padEnd(width)}  ${colour(formatBar(share, BAR_WIDTH))}  ${gone} of ${total} left the node  ${wordOf(phase)}${until}`;
    const shown = phase === "Drained" ? [] : tasks.slice(0, MOST_TASKS);
    const more = phase === "Drained" ? 0 : remaining - shown.length;
    return [
      head,
      ...shown.map((task) => {
        const text = cut(`  ${taskLine(task)}`, columns);
        return task.state === "Blocked" ? paint.yellow(text) : paint.dim(text);
      }),
      ...(more > 0 ? [paint.dim(`  … and ${more} more`)] : []),
    ];
  });
}

function createLines(session: Session): DrainView {
  const told = new Map<string, string>();
  const tell = (key: string, text: string): void => {
    if (told.get(key) === text) return;
    told.set(key, text);
    session.stderr.write(`${text}\n`);
  };
  return {
    update(nodes) {
      for (const node of nodes) {
        const { name } = node.metadata!;
        const status = node.status?.drain;
        if (status === undefined) continue;
        const { phase, total, remaining, tasks } = status;
        tell(name, `${name}  ${total - remaining} of ${total} left the node  ${wordOf(phase)}`);
        for (const task of tasks)
          if (task.state === "Blocked") tell(`${name} ${task.name}`, `${name}  ${taskLine(task)}`);
      }
    },
    finish() {},
    [Symbol.dispose]() {},
  };
}

function taskLine({ namespace, name, state, message }: DrainingTask): string {
  return `${namespace}/${name}  ${state.toLowerCase()}${message === "" ? "" : `: ${message}`}`;
}

function wordOf(phase: string): string {
  return phase === "GaveUp" ? "gave up" : phase.toLowerCase();
}

function cut(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`;
}
