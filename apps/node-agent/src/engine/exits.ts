/** What a container's end is called in the journal. */
import { signalName } from "@berth/linux";
import type { ContainerExit } from "@berth/runtime";
import type { TaskFacts } from "./journal-entries.ts";

export function exitFacts(exit: ContainerExit): TaskFacts {
  if (exit.kind === "unknown") {
    return { reason: "ExitUnknown", message: `nobody knows how it ended: ${exit.reason}`, exitUnknown: true };
  }
  const { exitCode, oomKilled } = exit;
  if (oomKilled) return { reason: "OOMKilled", message: "it used more memory than its limit", exitCode, oomKilled };
  if (exitCode === 0) return { reason: "Completed", exitCode };
  return { reason: "Error", message: exitMessage(exitCode), exitCode };
}

function exitMessage(exitCode: number): string {
  if (exitCode <= 128) return `exit code ${exitCode}`;
  try {
    return `exit code ${exitCode}: ended by ${signalName(exitCode - 128)}`;
  } catch {
    return `exit code ${exitCode}`;
  }
}
