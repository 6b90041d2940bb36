/** What happens when the faults stop: whatever can be done is done, and time passes. The task must come to run where the store says. */
import { seededRandom } from "@berth/base";
import type { Specification, Step } from "../explore.ts";
import { walk, type Walks } from "../walk.ts";
import { unbounded, type Scope } from "./scopes.ts";
import { stopThenReplace } from "./specification.ts";
import { execOf, SAFE_AFTER, type State } from "./state.ts";

const FAULTS = new Set(["AgentCrashed", "ContainerExited", "StopOrdered", "BackupTaken", "StoreRestored", "Tick"]);

/** Silence is noticed, waited out and replaced; a restored store is confirmed, its sets are taken, and it is released. */
const BOUND_TICKS = 3 * SAFE_AFTER;

/** `undefined` when it converges, else where it is stuck. */
export function stuckAt(spec: Specification<State>, from: State): State | undefined {
  let state = from;
  for (let ticks = 0; ticks <= BOUND_TICKS; ticks += 1) {
    state = settle(spec, state);
    if (isAsDesired(state)) return undefined;
    const tick = spec.steps(state).find((step) => step.name === "Tick");
    if (tick === undefined) return state;
    state = tick.next;
  }
  return state;
}

/** All that can be done within the tick, nothing of it twice. */
function settle(spec: Specification<State>, from: State): State {
  const been = new Set([spec.key(from)]);
  for (let state = from; ;) {
    const step = spec.steps(state).find((each) => !FAULTS.has(each.name) && !been.has(spec.key(each.next)));
    if (step === undefined) return state;
    state = step.next;
    been.add(spec.key(state));
  }
}

function isAsDesired({ store, placed, nodes }: State): boolean {
  if (store.current < 0 || store.ended || store.hold !== "none" || store.wanted === "stop") return false;
  return execOf(nodes[placed[store.current]!.on]!, store.current) === "running";
}

const RARE: Readonly<Record<string, number>> = { BackupTaken: 0.05, StoreRestored: 0.05, ContainerExited: 0.2 };

/** Seeded walks; after each the faults stop. */
export function walkFar(
  scope: Scope,
  { walks, length, seed }: { readonly walks: number; readonly length: number; readonly seed: number },
): Walks<State> {
  const free = stopThenReplace(unbounded(scope));
  return walk(stopThenReplace(scope), {
    walks,
    length,
    random: seededRandom(seed),
    weight: ({ name }: Step<State>) => RARE[name] ?? 1,
    ended: (state) => {
      const at = stuckAt(free, state);
      return at === undefined ? undefined : `does not converge: stuck at ${free.show(at)}`;
    },
  });
}
