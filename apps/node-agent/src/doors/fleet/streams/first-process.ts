/** The first process of a running task, by which its network and its files are entered from outside. */
import { StatusError } from "@berth/base";
import { processStartTicks } from "@berth/linux";
import type { RunningTask } from "../../../engine/engine.ts";

export interface FirstProcess {
  readonly pid: number;
  /** With the pid, a name that no later process has: compare it again after having opened something of /proc/PID. */
  readonly startTicks: number;
}

/** @throws FAILED_PRECONDITION `TASK_NOT_RUNNING`; UNIMPLEMENTED `SANDBOX_CLOSED` where a sandbox has its own kernel. */
export async function firstProcess({ name, container, runtime }: RunningTask, what: string): Promise<FirstProcess> {
  if (!runtime.sharesKernel) {
    const made = `${runtime.name} ${runtime.version}`;
    const text = `task ${name} does not run on its host's kernel (${made}): its ${what} cannot be entered from outside`;
    throw new StatusError("UNIMPLEMENTED", text, { reason: "SANDBOX_CLOSED" });
  }
  const { pid, status } = await runtime.state(container);
  const startTicks = processStartTicks(pid);
  if (status !== "stopped" && startTicks !== undefined) return { pid, startTicks };
  throw hasEnded(name);
}

export function hasEnded(name: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", `task ${name} has ended`, { reason: "TASK_NOT_RUNNING" });
}
