/**
 * A container object: the names of everything that it has on this host. All follow from the execution's record, so that
 * what a crash left can be found and released without asking anybody (A6).
 */
import { join } from "node:path";
import type { ContainerHandle } from "@berth/runtime";
import { describeKey, type Execution } from "./execution.ts";
import type { Origin } from "./intent.ts";
import type { ContainerPlan } from "./plan.ts";

export interface EnginePaths {
  /** One directory per namespace and container; on a tmpfs, best. */
  readonly bundles: string;
  /** `<namespace>/<task>/<generation>-<attempt>.log`. */
  readonly logs: string;
  /** Of cgroups, absolute within each hierarchy. */
  readonly cgroupParent: string;
}

export interface Container extends ContainerHandle {
  readonly taskUid: string;
  readonly generation: number;
  readonly attempt: number;
  readonly name: string;
  readonly plan: ContainerPlan;
  /** Of the job or set that asked for it. */
  readonly origin: Origin;
  readonly snapshotKey: string;
  readonly rootfs: string;
  readonly logPath: string;
}

export function containerOf(execution: Execution, plan: ContainerPlan, paths: EnginePaths): Container {
  const { namespace, taskUid, generation, attempt, name } = execution;
  const bundle = join(paths.bundles, namespace, taskUid);
  return {
    namespace,
    id: taskUid,
    taskUid,
    generation,
    attempt,
    name,
    plan,
    origin: { storeEpoch: execution.storeEpoch, revision: execution.revision },
    bundle,
    rootfs: join(bundle, "rootfs"),
    snapshotKey: `task-${describeKey(execution)}`,
    cgroupPath: `${namespaceCgroup(paths, namespace)}/${taskUid}`,
    logPath: logPathOf(execution, paths),
  };
}

export function namespaceCgroup(paths: EnginePaths, namespace: string): string {
  return `${paths.cgroupParent}/${namespace}`;
}

export function logDirectoryOf(
  task: { readonly namespace: string; readonly taskUid: string },
  paths: EnginePaths,
): string {
  return join(paths.logs, task.namespace, task.taskUid);
}

export function logPathOf(
  execution: Pick<Execution, "namespace" | "taskUid" | "generation" | "attempt">,
  paths: EnginePaths,
): string {
  return join(logDirectoryOf(execution, paths), `${execution.generation}-${execution.attempt}.log`);
}
