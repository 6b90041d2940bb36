/**
 * Specs as they are stored: with the defaults that have words, and checked for what no single field's rule can say.
 *
 * Defaults that depend on another field (onNodeLoss, on the number of replicas) are left to the reconciler, so that scaling
 * changes them.
 */
import { clone, create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { StatusError, type FieldViolation } from "@berth/base";
import { MOST_FENCED_GRACE_MS } from "@berth/model";
import {
  CampaignSpecSchema,
  RestartSchema,
  WorkloadSpecSchema,
  type CampaignSpec,
  type ContainerSpec,
  type WorkloadSpec,
} from "@berth/proto";
import { defaultWord } from "@berth/rpc";
import { healthViolations } from "./health-probes.ts";
import { fillJob, jobViolations } from "./jobs.ts";
import { placementViolations } from "./placement-rules.ts";
import { rolloutViolations } from "./rollout-bounds.ts";

/** @throws INVALID_ARGUMENT `FIELD_INVALID` for fields that contradict each other */
export function storedWorkloadSpec(given: WorkloadSpec): WorkloadSpec {
  const spec = clone(WorkloadSpecSchema, given);
  const violations = [
    ...containerViolations(spec.container!, "spec.container"),
    ...placementViolations(spec.placement, spec.everyNode),
  ];
  if (spec.everyNode && spec.replicas !== undefined) {
    violations.push({ field: "spec.replicas", description: "cannot be given with everyNode; leave one of them out" });
  }
  if ((spec.disruption?.maxUnavailable ?? "") !== "" && (spec.disruption?.minAvailable ?? "") !== "") {
    const description = "cannot be given with minAvailable; leave one of them out";
    violations.push({ field: "spec.disruption.maxUnavailable", description });
  }
  violations.push(...fencingViolations(spec));
  violations.push(...rolloutViolations(spec, "spec"), ...jobViolations(spec, "spec"));
  if (violations.length > 0) throw StatusError.invalid(violations);
  if (spec.job !== undefined) fillJob(spec, spec.job);
  else if (!spec.everyNode) spec.replicas ??= 1;
  spec.restart ??= create(RestartSchema);
  fillWords(WorkloadSpecSchema, spec);
  return spec;
}

function fencingViolations({ onNodeLoss, everyNode, container, rollout }: WorkloadSpec): FieldViolation[] {
  if (onNodeLoss !== "stopThenReplace") return [];
  const out: FieldViolation[] = [];
  if (everyNode) {
    const description = "stopThenReplace has no other place to go with everyNode; leave it out";
    out.push({ field: "spec.onNodeLoss", description });
  }
  for (const [field, surge] of [
    ["maxSurge", rollout?.maxSurge],
    ["maxSurgePercent", rollout?.maxSurgePercent],
  ] as const) {
    if (surge === undefined || surge === 0) continue;
    const description =
      "would run more than the replicas at once, which onNodeLoss stopThenReplace is to prevent; leave it out";
    out.push({ field: `spec.rollout.${field}`, description });
  }
  const grace = container?.stop?.grace;
  if (grace !== undefined && durationMs(grace) > MOST_FENCED_GRACE_MS) {
    const description = "is more than 10m: with onNodeLoss stopThenReplace a replacement waits for it; make it shorter";
    out.push({ field: "spec.container.stop.grace", description });
  }
  return out;
}

export function storedCampaignSpec(given: CampaignSpec): CampaignSpec {
  const spec = clone(CampaignSpecSchema, given);
  const violations = repeated(
    spec.images,
    (image) => image,
    (index) => `spec.images[${index}]`,
  );
  if (violations.length > 0) throw StatusError.invalid(violations);
  spec.parallelism ??= 10;
  spec.maxAttempts ??= 3;
  return spec;
}

function containerViolations(container: ContainerSpec, path: string): FieldViolation[] {
  const { env, mounts, network } = container;
  const ports = network?.ports ?? [];
  const out = [
    ...repeated(
      env,
      ({ name }) => name,
      (index) => `${path}.env[${index}].name`,
    ),
    ...repeated(
      mounts,
      ({ target }) => target.replace(/\/+$/, ""),
      (index) => `${path}.mounts[${index}].target`,
    ),
    ...repeated(
      ports,
      ({ protocol, hostPort }) => `${protocol || "tcp"}/${hostPort}`,
      (index) => `${path}.network.ports[${index}].hostPort`,
    ),
  ];
  for (const [index, mount] of mounts.entries()) {
    const at = `${path}.mounts[${index}]`;
    const isBind = mount.type === "" || mount.type === "bind";
    if (isBind && mount.source === "") out.push({ field: `${at}.source`, description: "is required for a bind mount" });
    if (!isBind && mount.source !== "")
      out.push({ field: `${at}.source`, description: "must be left out for a tmpfs" });
    if (isBind && mount.size !== "")
      out.push({ field: `${at}.size`, description: "is for a tmpfs only; leave it out" });
  }
  if (ports.length > 0 && network !== undefined && network.mode !== "" && network.mode !== "bridge") {
    const description = `need the bridge network; with mode ${network.mode} leave them out`;
    out.push({ field: `${path}.network.ports`, description });
  }
  return [...out, ...healthViolations(container, path)];
}

function repeated<T>(
  items: readonly T[],
  keyOf: (item: T) => string,
  pathOf: (index: number) => string,
): FieldViolation[] {
  const first = new Map<string, number>();
  return items.flatMap((item, index) => {
    const key = keyOf(item);
    const before = first.get(key);
    if (before === undefined) first.set(key, index);
    return before === undefined
      ? []
      : [
          {
            field: pathOf(index),
            description: `repeats ${JSON.stringify(key)} of ${pathOf(before)}; leave one of them out`,
          },
        ];
  });
}

/** Puts the default word into empty fields that have one, in every message that is there. */
function fillWords(desc: DescMessage, message: Message): void {
  fill(reflect(desc, message));
}

function fill(message: ReflectMessage): void {
  for (const field of message.fields) {
    if (field.fieldKind === "scalar" && !message.isSet(field)) {
      const word = defaultWord(field);
      if (word !== undefined) message.set(field, word);
    } else if (field.fieldKind === "message" && message.isSet(field)) fill(message.get(field));
    else if (field.fieldKind === "list" && field.listKind === "message") {
      for (const item of message.get(field)) fill(item as ReflectMessage);
    }
  }
}
