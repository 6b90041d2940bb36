/**
 * `npm run soak -- model [--states 3000000] [--walks 20000] [--seed n]`: the protocol's specification beyond the sample of
 * `npm test`: more executions, answers that come late, restored stores; breadth first up to so many states each, then walks.
 */
import { parseArgs } from "node:util";
import { FAR, walkFar as walkAssignments } from "../model/assignment/converge.ts";
import { assignment } from "../model/assignment/specification.ts";
import { explore, printTrace, type Specification } from "../model/explore.ts";
import { walkFar } from "../model/stop-then-replace/converge.ts";
import { LARGE, SMALL, type Scope } from "../model/stop-then-replace/scopes.ts";
import { stopThenReplace } from "../model/stop-then-replace/specification.ts";
import type { Walks } from "../model/walk.ts";

const { values } = parseArgs({
  options: {
    states: { type: "string", default: "3000000" },
    walks: { type: "string", default: "20000" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
  },
});

const SCOPES: Readonly<Record<string, Scope>> = {
  "three executions": { ...SMALL, maxExecs: 3 },
  "late answers": { ...SMALL, lateAnswers: true },
  "agents that crash": { ...SMALL, crashes: true },
  "a name that another agent gets": { ...SMALL, maxHeirs: 1, maxEnds: 0 },
  "a restored store": { ...SMALL, maxRestores: 1, maxEnds: 0 },
};
const maxStates = Number(values.states);
for (const [name, scope] of Object.entries(SCOPES)) exhaust(`stopThenReplace, ${name}`, stopThenReplace(scope));
exhaust("assignment", assignment({ maxExecs: 2, maxFaults: 1, maxSets: 2 }));

const [seed, walks] = [Number(values.seed), Number(values.walks)];
report("stopThenReplace", stopThenReplace(LARGE), walkFar(LARGE, { walks, length: 600, seed }));
report("assignment", assignment(FAR), walkAssignments({ walks, length: 400, seed }));

function exhaust<S>(name: string, spec: Specification<S>): void {
  const start = performance.now();
  const { states, transitions, depth, complete, found } = explore(spec, { maxStates });
  if (found !== undefined) throw new Error(`${name}:\n${printTrace(spec, found)}`);
  const seconds = ((performance.now() - start) / 1_000).toFixed(1);
  const extent = complete ? "all there are" : `breadth first to depth ${depth}`;
  console.log(`${name}: ${states} states (${extent}), ${transitions} steps, ${seconds} s: all holds`);
}

function report<S>(name: string, spec: Specification<S>, { steps, found }: Walks<S>): void {
  if (found !== undefined) throw new Error(`${name}, seed ${seed}:\n${printTrace(spec, found)}`);
  console.log(`${name}, seed ${seed}: ${walks} walks, ${steps} steps: all holds, and each converges`);
}
