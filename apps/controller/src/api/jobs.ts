/** Jobs' specs: what contradicts them, their defaults, and what is not done to them. Pure. */
import { create } from "@bufbuild/protobuf";
import { StatusError, type FieldViolation } from "@berth/base";
import { RestartSchema, type JobSpec, type WorkloadSpec } from "@berth/proto";

export function jobViolations(spec: WorkloadSpec, path: string): FieldViolation[] {
  if (spec.job === undefined) return [];
  const out: FieldViolation[] = [];
  const refuse = (field: string, description: string): void =>
    void out.push({ field: `${path}.${field}`, description });
  if (spec.everyNode) refuse("everyNode", "cannot be given with job: a job's tasks are counted by job.completions");
  if (spec.replicas !== undefined) refuse("replicas", "cannot be given with job; say job.completions");
  if (spec.rollout !== undefined) refuse("rollout", "cannot be given with job: a new spec is run from the beginning");
  const { policy = "", maxAttempts = 0 } = spec.restart ?? {};
  // What is shown of a job (onFailure) can be applied again.
  if ((policy !== "" && policy !== "onFailure") || maxAttempts > 0) {
    refuse("restart", "cannot be given with job; say job.retries");
  }
  return out;
}

export function fillJob(spec: WorkloadSpec, job: JobSpec): void {
  job.completions ??= 1;
  job.parallelism ??= 1;
  job.retries ??= 3;
  spec.restart = create(RestartSchema, { policy: "onFailure" });
}

/** @throws FAILED_PRECONDITION `IS_JOB` */
export function refuseJob(name: string, { job }: WorkloadSpec, hint: string): void {
  if (job === undefined) return;
  throw new StatusError("FAILED_PRECONDITION", `workload "${name}" is a job: ${hint}`, { reason: "IS_JOB" });
}
