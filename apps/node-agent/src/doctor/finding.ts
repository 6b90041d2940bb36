/** What a check of the doctor is given, and what it finds. */
import type { AgentConfig } from "@berth/config";

export type FindingStatus = "ok" | "warn" | "fail";

export interface Finding {
  /** What was looked at: stable, such as `programs/runc`. */
  readonly check: string;
  /** `fail`: the agent does not work, or data is damaged. `warn`: it works, but not as it could. */
  readonly status: FindingStatus;
  readonly detail: string;
  /** What to do about it; absent when all is well. */
  readonly remedy?: string;
}

export interface DoctorDeps {
  readonly config: AgentConfig;
  /** Directories of programs, as in PATH. */
  readonly path: string;
  readonly signal?: AbortSignal;
  /** Wall clock. */
  readonly nowMs?: () => number;
}

/** What a check is given, with what all of them ask for. */
export interface CheckContext extends DoctorDeps {
  readonly metadataPath: string;
  readonly lockPath: string;
  /** The pid of the agent that runs on this root, if there is one. */
  readonly running: number | undefined;
}

export type Check = (context: CheckContext) => Promise<readonly Finding[]> | readonly Finding[];
