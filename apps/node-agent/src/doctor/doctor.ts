/**
 * Looks over a host and a data root: what the agent needs of the one, and whether the other is sound. What `berthd doctor` does.
 *
 * Invariant: it changes nothing (but for a probe directory that snapshotters make and remove) and takes no lock, so that it can
 * be run beside a living agent and on the root of one that will not start. Each check stands alone: one that fails for reasons of
 * its own says so and does not keep the others from being made.
 */
import { StatusError, throwIfAborted } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import { clockCheck } from "./clock.ts";
import { databaseCheck, filesCheck } from "./data.ts";
import { diskCheck, lockCheck, permissionsCheck } from "./data-root.ts";
import { cgroupCheck, kernelCheck, snapshottersCheck } from "./kernel.ts";
import { mountsCheck, namespacesCheck } from "./leftovers.ts";
import { programsCheck } from "./programs.ts";

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

const CHECKS: Readonly<Record<string, Check>> = {
  programs: programsCheck,
  kernel: kernelCheck,
  cgroups: cgroupCheck,
  snapshotters: snapshottersCheck,
  clock: clockCheck,
  lock: lockCheck,
  permissions: permissionsCheck,
  disk: diskCheck,
  database: databaseCheck,
  files: filesCheck,
  mounts: mountsCheck,
  namespaces: namespacesCheck,
};

/** In the order in which they are made; the host first, then the data root. */
export async function runDoctor(deps: DoctorDeps): Promise<readonly Finding[]> {
  const { dataRootOwner } = await import("../data-root-lock.ts");
  const lockPath = `${deps.config.root}/agent.lock`;
  const running = await dataRootOwner(lockPath);
  const context = { ...deps, lockPath, running, metadataPath: `${deps.config.root}/metadata.db` };
  const findings: Finding[] = [];
  for (const [name, check] of Object.entries(CHECKS)) {
    throwIfAborted(deps.signal);
    try {
      findings.push(...(await check(context)));
    } catch (error) {
      throwIfAborted(deps.signal);
      const detail = `could not be checked: ${StatusError.from(error).message}`;
      findings.push({ check: name, status: "warn", detail, remedy: "run the doctor as root, on the agent's host" });
    }
  }
  return findings;
}
