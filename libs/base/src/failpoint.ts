/**
 * Named places between two steps where a test may end the process, as a power cut would.
 *
 * Code that must survive a crash at a place calls `failpoint("dispatch.after-add")` there; composition roots pass
 * {@link noFailpoints}, or, when their configuration names a place, {@link crashAt}.
 */
import { kill, pid } from "node:process";

export type Failpoint = (name: string) => void;

export const noFailpoints: Failpoint = () => {};

/** Ends this process with SIGKILL at the `nth` passage of the named place. */
export function crashAt(name: string, nth = 1): Failpoint {
  let passages = 0;
  return (reached) => {
    if (reached !== name) return;
    passages += 1;
    if (passages === nth) kill(pid, "SIGKILL");
  };
}
