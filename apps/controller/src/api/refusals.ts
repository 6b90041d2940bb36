/** What users are told, in one voice: what is wrong, of what, and what to do next. */
import { StatusError } from "@berth/base";

export type Noun =
  | "namespace"
  | "node"
  | "workload"
  | "task"
  | "campaign"
  | "cron job"
  | "registry mirror"
  | "webhook"
  | "upgrade";

export function notFound(noun: Noun, name: string, namespace?: string): StatusError {
  const where = namespace === undefined ? "" : ` in namespace "${namespace}"`;
  return new StatusError("NOT_FOUND", `${noun} "${name}" does not exist${where}; ${LISTING[noun]}`, {
    reason: `${noun.toUpperCase().replace(" ", "_")}_NOT_FOUND`,
    details: { name, ...(namespace === undefined ? {} : { namespace }) },
  });
}

const LISTING: Readonly<Record<Noun, string>> = {
  namespace: "`berth ns` lists what there is",
  node: "`berth nodes` lists those that have joined; one joins when its agent (berthd) first reaches the controller",
  workload: "`berth get workloads` lists what there is",
  task: "`berth get tasks` lists what there is",
  campaign: "`berth get campaigns` lists what there is",
  "cron job": "`berth get cronjobs` lists what there is",
  webhook: "`berth get webhooks` lists what there is",
  upgrade: "`berth upgrade history` lists what there was",
  "registry mirror": "`berth get registrymirrors` lists what there is",
};

export function namespaceMissing(name: string): StatusError {
  return new StatusError(
    "FAILED_PRECONDITION",
    `namespace "${name}" does not exist; create it with berth ns create ${name}`,
    {
      reason: "NAMESPACE_NOT_FOUND",
      details: { namespace: name },
    },
  );
}

export function goingAway(noun: Noun, name: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", `${noun} "${name}" is being deleted; try again once it is gone`, {
    reason: "BEING_DELETED",
    details: { name },
    retryAfterMs: 1_000,
  });
}

/** @param current undefined when there is nothing of that name any more */
export function versionConflict(noun: Noun, name: string, given: bigint, current: number | undefined): StatusError {
  const now = current === undefined ? "it does not exist" : `it is at ${current} now`;
  return new StatusError(
    "ABORTED",
    `${noun} "${name}": metadata.resourceVersion is ${given}, but ${now}: it was changed meanwhile; read it again, then apply`,
    { reason: "RESOURCE_VERSION_CONFLICT", details: { name, ...(current === undefined ? {} : { current }) } },
  );
}
