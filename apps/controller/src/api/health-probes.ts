/** What no single field's rule can say of probes and deadlines. Pure. */
import { durationMs, type Duration } from "@bufbuild/protobuf/wkt";
import type { FieldViolation } from "@berth/base";
import type { ContainerSpec, Probe } from "@berth/proto";

export function healthViolations({ health, activeDeadline }: ContainerSpec, path: string): FieldViolation[] {
  const probes = { startup: health?.startup, readiness: health?.readiness, liveness: health?.liveness };
  const out = Object.entries(probes).flatMap(([name, probe]) =>
    probe === undefined ? [] : probeViolations(probe, `${path}.health.${name}`),
  );
  if (isBelow(activeDeadline, 1)) {
    out.push({ field: `${path}.activeDeadline`, description: "must be longer than 0s; leave it out for no bound" });
  }
  return out;
}

function probeViolations(probe: Probe, path: string): FieldViolation[] {
  const out: FieldViolation[] = [];
  const given = (["exec", "http", "tcp"] as const).filter((kind) => probe[kind] !== undefined);
  if (given.length === 0) out.push({ field: path, description: "asks nothing: give it one of exec, http and tcp" });
  if (given.length > 1) {
    out.push({ field: `${path}.${given[1]}`, description: `cannot be given with ${given[0]}: a probe asks one thing` });
  }
  if (probe.http !== undefined && probe.http.path !== "" && !/^\/[\x21-\x7e]*$/.test(probe.http.path)) {
    out.push({ field: `${path}.http.path`, description: "must begin with / and have no spaces; write others as %20" });
  }
  if (isBelow(probe.interval, 100)) out.push({ field: `${path}.interval`, description: "must be at least 0.1s" });
  if (isBelow(probe.timeout, 50)) out.push({ field: `${path}.timeout`, description: "must be at least 0.05s" });
  return out;
}

const isBelow = (duration: Duration | undefined, ms: number): boolean =>
  duration !== undefined && durationMs(duration) < ms;
