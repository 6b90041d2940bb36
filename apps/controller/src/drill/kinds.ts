/** The kinds of drills, in words: what is done to the agents of a slice. Their containers go on in each of them. */
import { StatusError } from "@berth/base";

export interface DrillKind {
  readonly name: string;
  /** What is done to the nodes that follow. */
  readonly does: string;
  /** The trouble, as a noun. */
  readonly trouble: string;
  /** It lasts for a time that is asked for, and is noticed as silence. */
  readonly lasts: boolean;
}

const KINDS: readonly DrillKind[] = [
  { name: "partition", does: "cut off", trouble: "the cut", lasts: true },
  { name: "pause", does: "pause the agent of", trouble: "the pause", lasts: true },
  { name: "kill", does: "kill the agent of", trouble: "the kill", lasts: false },
];

/** @throws INVALID_ARGUMENT `FIELD_INVALID` */
export function drillKind(name: string): DrillKind {
  const found = KINDS.find((kind) => kind.name === name);
  if (found !== undefined) return found;
  const names = KINDS.map((kind) => kind.name).join(", ");
  throw StatusError.invalid([{ field: "kind", description: `${JSON.stringify(name)} is none of ${names}` }]);
}
