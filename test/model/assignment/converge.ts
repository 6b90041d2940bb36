/** What happens when the faults stop: each side does what it can, and the node does as the store says. */
import { seededRandom } from "@berth/base";
import type { Specification, Step } from "../explore.ts";
import { walk, type Walks } from "../walk.ts";
import type { Scope } from "./controller.ts";
import { assignment } from "./specification.ts";
import { rowOf, type State } from "./state.ts";

/** What only happens because somebody wants it, or fails. */
const UNASKED = new Set(["ExecutionMade", "StopOrdered", "NodeSilent", "ContainerExited", "RedisWiped", "BackupTaken", "StoreRestored"]); // prettier-ignore

/** `undefined` when it converges, else where it comes to rest. */
export function stuckAt(spec: Specification<State>, from: State): State | undefined {
  const been = new Set([spec.key(from)]);
  for (let state = from; ;) {
    const step = spec.steps(state).find((each) => !UNASKED.has(each.name) && !been.has(spec.key(each.next)));
    if (step === undefined) return isAsDesired(state) ? undefined : state;
    state = step.next;
    been.add(spec.key(state));
  }
}

function isAsDesired({ store, rows, journal }: State): boolean {
  if (store.stored < journal.length || !store.reachable) return false;
  const runs = rows.findIndex((row) => row.process === "running");
  if (store.exec < 0 || store.desired === "stop") return runs < 0;
  const { state } = rowOf({ rows }, store.exec);
  return store.phase === "ended" ? state === "ended" && runs < 0 : state === "running" && runs === store.exec;
}

/** For walks. */
export const FAR: Scope = { maxExecs: 12, maxFaults: 4, maxSets: 3 };

const RARE: Readonly<Record<string, number>> = { BackupTaken: 0.05, StoreRestored: 0.05, ExecutionMade: 0.2 };

/** Seeded walks; after each that saw no restore the faults stop. */
export function walkFar(bounds: {
  readonly walks: number;
  readonly length: number;
  readonly seed: number;
}): Walks<State> {
  const spec = assignment(FAR);
  return walk(spec, {
    walks: bounds.walks,
    length: bounds.length,
    random: seededRandom(bounds.seed),
    weight: ({ name }: Step<State>) => RARE[name] ?? 1,
    ended: (state) => {
      const at = state.store.epoch === 0 ? stuckAt(spec, state) : undefined;
      return at === undefined ? undefined : `does not converge: comes to rest at ${spec.show(at)}`;
    },
  });
}
