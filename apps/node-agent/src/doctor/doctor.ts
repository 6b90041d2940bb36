/**
 * Looks over a host and a data root: what the agent needs of the one, and whether the other is sound. What `berthd doctor` does.
 *
 * Invariant: it changes nothing (but for a probe directory that snapshotters make and remove) and takes no lock, so that it can
 * be run beside a living agent and on the root of one that will not start. Each check stands alone: one that fails for reasons of
 * its own says so and does not keep the others from being made.
 */
import { StatusError, throwIfAborted } from "@berth/base";
import { clockCheck } from "./clock.ts";
import type { Check, DoctorDeps, Finding } from "./finding.ts";
import { databaseCheck, filesCheck } from "./data.ts";
import { diskCheck, lockCheck, permissionsCheck } from "./data-root.ts";
import { cgroupCheck, kernelCheck, snapshottersCheck } from "./kernel.ts";
import { mountsCheck, namespacesCheck } from "./leftovers.ts";
import { programsCheck } from "./programs.ts";

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
