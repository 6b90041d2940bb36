/** What must hold through a drill, judged over what was before it and what is now. Pure. */
import type { DrilledTask, RunTimes } from "@berth/store";

export interface Judged {
  readonly before: readonly DrilledTask[];
  /** All tasks of the same workloads, now. */
  readonly now: readonly DrilledTask[];
  /** Of the workloads that are still wanted, before and now. */
  readonly generationsBefore: ReadonlyMap<string, number>;
  readonly generationsNow: ReadonlyMap<string, number>;
}

const TERMINAL = new Set(["Succeeded", "Failed", "Stopped"]);

/** What was wanted and has nobody in its place now; what somebody changed meanwhile is not judged. */
export function lostTasks({ before, now, generationsBefore, generationsNow }: Judged): DrilledTask[] {
  return before.filter((task) => {
    const { workloadUid } = task;
    if (task.desired !== "Run" || !generationsNow.has(workloadUid)) return false;
    if (generationsBefore.get(workloadUid) !== generationsNow.get(workloadUid)) return false;
    return successorOf(task, now) === undefined;
  });
}

/** The task that is wanted in the place of this one: itself, or one that replaced it. */
export function successorOf(task: DrilledTask, now: readonly DrilledTask[]): DrilledTask | undefined {
  const same = now.find(({ uid, desired }) => uid === task.uid && desired === "Run");
  if (same !== undefined || task.slot < 0) return same;
  return now.find((each) => each.workloadUid === task.workloadUid && each.slot === task.slot && each.desired === "Run");
}

/** An execution that had ended is still as it had ended. */
export function changedEnds({ before, now }: Judged): string[] {
  return before
    .filter(({ phase }) => TERMINAL.has(phase))
    .flatMap((task) => {
      const after = now.find(({ uid, attempt }) => uid === task.uid && attempt === task.attempt);
      if (after === undefined || after.phase === task.phase) return [];
      return [`${task.namespace}/${task.name} was ${task.phase} and is ${after.phase}`];
    });
}

/** Of stopThenReplace tasks that were replaced: the one before had ended when its successor began (A5), by the journals. */
export function doubleRuns({ before, now }: Judged, times: ReadonlyMap<string, RunTimes>): string[] {
  return before.flatMap((task) => {
    const next = task.fence && task.phase === "Running" ? successorOf(task, now) : undefined;
    const begun = next === undefined ? undefined : times.get(next.uid)?.startedAtMs;
    if (next === undefined || next.uid === task.uid || begun === undefined) return [];
    const ended = times.get(task.uid)?.endedAtMs;
    if (ended !== undefined && ended <= begun) return [];
    const until = ended === undefined ? "has not been seen to end" : `ended ${Math.round(ended - begun)} ms after`;
    return [`${task.namespace}/${task.name} ${until}: ${next.name} had begun in its place`];
  });
}
