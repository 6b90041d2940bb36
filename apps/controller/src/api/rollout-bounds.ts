/** What no single field's rule can say of a rollout's bounds. Pure. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { FieldViolation } from "@berth/base";
import type { WorkloadSpec } from "@berth/proto";

export function rolloutViolations({ rollout, everyNode, onNodeLoss }: WorkloadSpec, path: string): FieldViolation[] {
  if (rollout === undefined) return [];
  const at = `${path}.rollout`;
  const out: FieldViolation[] = [];
  const { maxUnavailable, maxUnavailablePercent, maxSurge, maxSurgePercent, progressDeadline, minReady } = rollout;
  if (maxUnavailable !== undefined && maxUnavailablePercent !== undefined) out.push(both(at, "maxUnavailable"));
  if (maxSurge !== undefined && maxSurgePercent !== undefined) out.push(both(at, "maxSurge"));
  const surges = (maxSurge ?? 0) > 0 || (maxSurgePercent ?? 0) > 0;
  if (everyNode && surges) {
    const field = (maxSurge ?? 0) > 0 ? "maxSurge" : "maxSurgePercent";
    out.push({
      field: `${at}.${field}`,
      description: "cannot be used with everyNode: a node has one task; leave it out",
    });
  }
  if (onNodeLoss === "stopThenReplace" && surges) {
    const field = (maxSurge ?? 0) > 0 ? "maxSurge" : "maxSurgePercent";
    const description = "cannot be used with onNodeLoss stopThenReplace: two must not run at a time; leave it out";
    out.push({ field: `${at}.${field}`, description });
  }
  if (!surges && (maxUnavailable === 0 || maxUnavailablePercent === 0)) {
    const field = maxUnavailable === 0 ? "maxUnavailable" : "maxUnavailablePercent";
    out.push({
      field: `${at}.${field}`,
      description: "is 0, so nothing could ever be replaced; raise it, or give maxSurge",
    });
  }
  if (progressDeadline !== undefined && durationMs(progressDeadline) <= (minReady ? durationMs(minReady) : 0)) {
    out.push({ field: `${at}.progressDeadline`, description: "must be longer than minReady, and than 0s" });
  }
  return out;
}

const both = (at: string, field: string): FieldViolation => ({
  field: `${at}.${field}Percent`,
  description: `cannot be given with ${field}; leave one of them out`,
});
