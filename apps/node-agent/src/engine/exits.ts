/** What a container's end is called in the journal. */
import { signalName } from "@berth/linux";
import type { ContainerExit } from "@berth/runtime";
import type { FenceMark } from "../stopper/stopper.ts";
import type { TaskFacts } from "./journal-entries.ts";

export function exitFacts(exit: ContainerExit): TaskFacts {
  if (exit.kind === "unknown") {
    return { reason: "ExitUnknown", message: `nobody knows how it ended: ${exit.reason}`, exitUnknown: true };
  }
  const { exitCode, oomKilled, atMs: endedAtMs } = exit;
  const known = { exitCode, endedAtMs };
  if (oomKilled) return { reason: "OOMKilled", message: "it used more memory than its limit", oomKilled, ...known };
  if (exitCode === 0) return { reason: "Completed", ...known };
  return { reason: "Error", message: exitMessage(exitCode), ...known };
}

/** The node's stopper ended it: that says nothing of the program. */
export function fencedFacts(exit: ContainerExit, mark: FenceMark): TaskFacts {
  const code = exit.kind === "exited" ? { exitCode: exit.exitCode, endedAtMs: exit.atMs } : {};
  return { ...fencedReason(mark), ...code };
}

export function fencedReason({ firedBoottimeMs, deadlineBoottimeMs }: FenceMark): {
  readonly reason: string;
  readonly message: string;
} {
  const lateSeconds = ((firedBoottimeMs - deadlineBoottimeMs) / 1_000).toFixed(2);
  const message =
    deadlineBoottimeMs === 0
      ? "the node's stopper ended it: the node had no lease"
      : `the node's stopper ended it ${lateSeconds} s after the node's lease had run out`;
  return { reason: "Fenced", message };
}

function exitMessage(exitCode: number): string {
  if (exitCode <= 128) return `exit code ${exitCode}`;
  try {
    return `exit code ${exitCode}: ended by ${signalName(exitCode - 128)}`;
  } catch {
    return `exit code ${exitCode}`;
  }
}
