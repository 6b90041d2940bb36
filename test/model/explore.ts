/**
 * A small model checker: walks every state that a specification allows, breadth first, and holds each step against its
 * invariants. The first violation found is reached by as few steps as any.
 *
 * States are plain values that are never changed in place. `key` names a state: states with the same key are the same for the
 * specification (that is where symmetry and relative time are taken out), so its author answers for its soundness.
 *
 * Leaves to the specifications what the states are, and to `walk.ts` what lies beyond the bound.
 */
export interface Step<S> {
  readonly name: string;
  /** Of what, for people: "A", "X2 on B". */
  readonly of: string;
  readonly next: S;
}

export interface Specification<S> {
  readonly initial: S;
  steps(state: S): Step<S>[];
  key(state: S): string;
  /** What must never be, said of a step's end and of the step itself; empty when all holds. */
  violations(before: S, step: Step<S>): string[];
  /** One line for people. */
  show(state: S): string;
}

export interface Bounds {
  readonly maxStates: number;
}

export interface Trace<S> {
  readonly violation: string;
  readonly initial: S;
  readonly steps: readonly Step<S>[];
}

export interface Exploration<S> {
  readonly states: number;
  readonly transitions: number;
  readonly depth: number;
  /** Every state that the specification allows was seen: the bound did not cut it short. */
  readonly complete: boolean;
  readonly found: Trace<S> | undefined;
  /** How often each step was taken. */
  readonly taken: ReadonlyMap<string, number>;
}

interface Seen<S> {
  readonly state: S;
  readonly parent: number;
  readonly step: Step<S> | undefined;
  readonly depth: number;
}

export function explore<S>(
  spec: Specification<S>,
  { maxStates }: Bounds,
  visit?: (state: S, index: number) => void,
): Exploration<S> {
  const seen: Seen<S>[] = [{ state: spec.initial, parent: -1, step: undefined, depth: 0 }];
  const keys = new Set([spec.key(spec.initial)]);
  const taken = new Map<string, number>();
  let transitions = 0;
  for (let index = 0; index < seen.length; index += 1) {
    const { state, depth } = seen[index]!;
    visit?.(state, index);
    for (const step of spec.steps(state)) {
      transitions += 1;
      taken.set(step.name, (taken.get(step.name) ?? 0) + 1);
      const [violation] = spec.violations(state, step);
      if (violation !== undefined) {
        const found = { violation, initial: spec.initial, steps: [...pathTo(seen, index), step] };
        return { states: seen.length, transitions, depth: depth + 1, complete: false, found, taken };
      }
      const key = spec.key(step.next);
      if (keys.has(key)) continue;
      if (seen.length >= maxStates) {
        return { states: seen.length, transitions, depth, complete: false, found: undefined, taken };
      }
      keys.add(key);
      seen.push({ state: step.next, parent: index, step, depth: depth + 1 });
    }
  }
  const depth = seen.at(-1)!.depth;
  return { states: seen.length, transitions, depth, complete: true, found: undefined, taken };
}

function pathTo<S>(seen: readonly Seen<S>[], index: number): Step<S>[] {
  const steps: Step<S>[] = [];
  for (let at = seen[index]!; at.step !== undefined; at = seen[at.parent]!) steps.push(at.step);
  return steps.reverse();
}

/** For people: each step with the state it leads to. */
export function printTrace<S>(spec: Pick<Specification<S>, "show">, trace: Trace<S>): string {
  const width = Math.max(...trace.steps.map((step) => `${step.name} ${step.of}`.length));
  const lines = trace.steps.map((step, index) => {
    const label = `${step.name} ${step.of}`.padEnd(width);
    return `${String(index + 1).padStart(3)}  ${label}  ${spec.show(step.next)}`;
  });
  return [`${trace.violation}, after ${trace.steps.length} steps:`, ...lines].join("\n");
}
