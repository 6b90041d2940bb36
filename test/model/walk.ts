/**
 * Long seeded walks, beyond the bound of the exhaustive exploration: more executions, more restores, longer histories. After
 * each walk the faults stop, and the system must come to rest as desired.
 */
import type { Random } from "@berth/base";
import type { Specification, Step, Trace } from "./explore.ts";

export interface Walks<S> {
  readonly walks: number;
  readonly steps: number;
  /** The names of all steps that were taken. */
  readonly taken: ReadonlySet<string>;
  readonly found: Trace<S> | undefined;
}

export interface WalkBounds<S> {
  readonly walks: number;
  readonly length: number;
  readonly random: Random;
  /** How likely a step is, next to the others; 1 when it says nothing. */
  readonly weight?: (step: Step<S>) => number;
  /** Looks at where a walk has ended; returns what is wrong with it. */
  readonly ended?: (state: S) => string | undefined;
}

export function walk<S>(spec: Specification<S>, bounds: WalkBounds<S>): Walks<S> {
  const taken = new Set<string>();
  let steps = 0;
  for (let count = 1; count <= bounds.walks; count += 1) {
    const path: Step<S>[] = [];
    let state = spec.initial;
    for (let length = 0; length < bounds.length; length += 1) {
      const step = pick(spec.steps(state), bounds);
      if (step === undefined) break;
      path.push(step);
      steps += 1;
      taken.add(step.name);
      const [violation] = spec.violations(state, step);
      if (violation !== undefined) {
        return { walks: count, steps, taken, found: { violation, initial: spec.initial, steps: path } };
      }
      state = step.next;
    }
    const wrong = bounds.ended?.(state);
    if (wrong !== undefined)
      return { walks: count, steps, taken, found: { violation: wrong, initial: spec.initial, steps: path } };
  }
  return { walks: bounds.walks, steps, taken, found: undefined };
}

function pick<S>(steps: readonly Step<S>[], { random, weight = () => 1 }: WalkBounds<S>): Step<S> | undefined {
  const weights = steps.map(weight);
  let at = random() * weights.reduce((sum, each) => sum + each, 0);
  return steps.find((_, index) => (at -= weights[index]!) < 0);
}
