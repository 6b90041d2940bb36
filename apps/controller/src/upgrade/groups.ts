/** Which nodes an upgrade takes together: a few first, then so many or such a share at a time. Pure. */
import { StatusError } from "@berth/base";
import type { UpgradeSpec } from "@berth/proto";

export interface GroupedNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

const DEFAULT_CANARY = 1;
const DEFAULT_BATCH = "10%";

/** The first is the canary; with `groupBy` no group behind it has nodes of two values of that label. @throws INVALID_ARGUMENT */
export function groupsOf<T extends GroupedNode>(
  nodes: readonly T[],
  { canary = DEFAULT_CANARY, batch, groupBy }: Pick<UpgradeSpec, "canary" | "batch" | "groupBy">,
): readonly (readonly T[])[] {
  const sorted = nodes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const rest = sorted.slice(canary);
  const size = batchSize(batch === "" ? DEFAULT_BATCH : batch, sorted.length);
  const kinds = groupBy === "" ? [rest] : Object.values(Object.groupBy(rest, ({ labels }) => labels[groupBy] ?? ""));
  const groups = kinds.flatMap((kind = []) =>
    Array.from({ length: Math.ceil(kind.length / size) }, (_, index) => kind.slice(index * size, (index + 1) * size)),
  );
  return canary === 0 || sorted.length === 0 ? groups : [sorted.slice(0, canary), ...groups];
}

function batchSize(batch: string, nodes: number): number {
  const [, digits, percent] = /^([1-9]\d{0,4})(%?)$/.exec(batch) ?? [];
  const count = Number(digits);
  if (digits === undefined || (percent === "%" && count > 100)) {
    const description = `${JSON.stringify(batch)} is neither a number of nodes, at least 1, nor a share of them such as 10%`;
    throw StatusError.invalid([{ field: "spec.batch", description }]);
  }
  return percent === "%" ? Math.max(1, Math.ceil((nodes * count) / 100)) : count;
}
