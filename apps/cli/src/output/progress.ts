/**
 * Live bars for pulls, one line per node and image; where stdout is no terminal, a plain line at each change of phase.
 * Bars are drawn on stderr, so that stdout stays for results.
 */
import type { CampaignTarget } from "@berth/proto";
import { createLiveLines, formatBar, formatBytes } from "@berth/base/terminal";
import type { Session } from "../session.ts";

export interface ProgressView extends Disposable {
  update(targets: readonly CampaignTarget[]): void;
  /** Leaves the last state standing. */
  finish(): void;
}

const BAR_WIDTH = 24;
const MAX_LINES = 20;

export function createProgressView(session: Session): ProgressView {
  return session.stderr.isTTY && session.env["TERM"] !== "dumb" ? createBars(session) : createLines(session);
}

function createLines(session: Session): ProgressView {
  const told = new Map<string, string>();
  return {
    update(targets) {
      for (const target of targets) {
        const key = `${target.node} ${target.image}`;
        const state = `${stateOf(target)}${target.message === "" ? "" : `: ${target.message}`}`;
        if (told.get(key) === state) continue;
        told.set(key, state);
        session.stderr.write(`${target.node}  ${target.image}  ${state}${sizeOf(target)}\n`);
      }
    },
    finish() {},
    [Symbol.dispose]() {},
  };
}

function createBars(session: Session): ProgressView {
  const live = createLiveLines(session.stderr);
  return {
    update: (targets) => live.update((columns) => barLines(session, targets, columns)),
    finish: () => live.finish(),
    [Symbol.dispose]: () => live[Symbol.dispose](),
  };
}

function barLines(session: Session, targets: readonly CampaignTarget[], columns: number): string[] {
  const active = targets.toSorted(
    (a, b) => rank(a) - rank(b) || `${a.node}${a.image}`.localeCompare(`${b.node}${b.image}`),
  );
  const shown =
    targets.length <= MAX_LINES
      ? targets.toSorted((a, b) => `${a.node}${a.image}`.localeCompare(`${b.node}${b.image}`))
      : active.slice(0, MAX_LINES);
  const nodeWidth = Math.max(...shown.map((target) => target.node.length));
  const imageWidth = Math.max(...shown.map((target) => shortImage(target).length));
  const lines = shown.map((target) =>
    barLine(session, target, nodeWidth, Math.min(imageWidth, Math.max(10, columns - nodeWidth - BAR_WIDTH - 40))),
  );
  if (shown.length < targets.length) {
    const done = targets.filter((target) => target.phase === "Succeeded").length;
    lines.push(session.paint.dim(`… ${targets.length - shown.length} more; ${done} of ${targets.length} done`));
  }
  return lines;
}

function barLine(session: Session, target: CampaignTarget, nodeWidth: number, imageWidth: number): string {
  const { paint } = session;
  const share = shareOf(target);
  const bar = formatBar(share, BAR_WIDTH);
  const colour = target.phase === "Failed" ? paint.red : target.phase === "Succeeded" ? paint.green : paint.blue;
  const image = shortImage(target).slice(-imageWidth).padEnd(imageWidth);
  return `${target.node.padEnd(nodeWidth)}  ${image}  ${colour(bar)} ${String(Math.floor(share * 100)).padStart(3)}%  ${stateOf(target)}${sizeOf(target)}`;
}

function rank(target: CampaignTarget): number {
  return target.phase === "Pulling" ? 0 : target.phase === "Failed" ? 1 : target.phase === "Waiting" ? 2 : 3;
}

function stateOf(target: CampaignTarget): string {
  if (target.certainty === "unreachable") return "node unreachable";
  if (target.phase === "Pulling") return target.progress?.phase || "pulling";
  return target.phase.toLowerCase();
}

function sizeOf(target: CampaignTarget): string {
  const { progress } = target;
  return progress === undefined || progress.totalBytes === 0n
    ? ""
    : `  ${formatBytes(progress.offsetBytes)} / ${formatBytes(progress.totalBytes)}`;
}

function shareOf(target: CampaignTarget): number {
  if (target.phase === "Succeeded") return 1;
  const { progress } = target;
  if (progress === undefined || progress.totalBytes === 0n) return 0;
  return Math.min(1, Number(progress.offsetBytes) / Number(progress.totalBytes));
}

/** The registry's address says little in a line of progress. */
function shortImage(target: CampaignTarget): string {
  return target.image.slice(target.image.indexOf("/") + 1);
}
