/**
 * The contract of the node's stopper (DESIGN, flow C): what ends fenced containers when the node's lease has run out, whether
 * or not the agent lives. `file-stopper.ts` is the real one; `memory.ts` is for tests and for agents that only pretend.
 *
 * The protocol, by the names that the controller's side, the docs and the model use:
 *
 *   Renew    the lease request is sent at S (CLOCK_BOOTTIME); its answer makes the deadline D = S + TTL        lease.ts
 *   Arm      D is given to the stopper                                                                         `arm`
 *   List     a fenced container is named to the stopper before it can run                                      `list`
 *   Create   its process exists, and waits to be started                                                       steps/create.ts
 *   Start    it is started only while the lease is held and the node knows what the controller wants now       lease-gate.ts
 *   Fire     D has passed: what is listed is marked, signalled, and after its grace killed                     stopper.sh
 *   Fenced   the agent finds the mark at the container's end and journals it                                   execution-end.ts
 *   Unlist   nothing of the container is left                                                                  `unlist`
 *
 * Invariants:
 *  1. A fenced container that has processes is listed: it is listed before they are made, unlisted after they are gone.
 *  2. What is not listed is never touched, so a control-plane outage stops nothing else.
 *  3. The lease is looked at after the process exists: what is started late has been seen by the stopper at D.
 *  4. D is never later than what the controller believes: it counts from the sending, the controller from its own write.
 */

export interface StopEntry {
  /** Names the execution: it becomes a file name. */
  readonly key: string;
  /** Directories of the container's cgroup, in as many hierarchies as are to be looked at. */
  readonly cgroups: readonly string[];
  /** `freezer.state` of a v1 host. */
  readonly freezer: string | undefined;
  /** The file with its first process's pid; it is written later. */
  readonly initPidFile: string;
  readonly signal: number;
  readonly graceMs: number;
}

/** What the stopper wrote before it touched a container; CLOCK_BOOTTIME. */
export interface FenceMark {
  readonly firedBoottimeMs: number;
  readonly deadlineBoottimeMs: number;
}

export interface Stopper {
  /** Why it cannot be relied upon now; undefined when it can. */
  problem(): string | undefined;
  /** Makes sure that it runs and takes notice. @throws FAILED_PRECONDITION `STOPPER_UNAVAILABLE` */
  ensure(): Promise<void>;
  /** The lease lasts until then. */
  arm(deadlineBoottimeMs: number): void;
  /** As it was armed last, also by an agent before this one; CLOCK_BOOTTIME, 0: not known, so it has passed. */
  deadline(): number;
  /** @throws FAILED_PRECONDITION `STOPPER_UNAVAILABLE`: then the container must not be started. */
  list(entry: StopEntry): Promise<void>;
  unlist(key: string): void;
  /** Has it begun to stop this one? */
  mark(key: string): FenceMark | undefined;
}
