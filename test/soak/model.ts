/**
 * `npm run soak -- model [--states 3000000] [--walks 20000] [--seed n]`: the protocol's specification beyond the sample of
 * `npm test`: more executions, answers that come late, restored stores; breadth first up to so many states each, then walks.
 */
import { parseArgs } from "node:util";
import { explore, printTrace } from "../model/explore.ts";
import { walkFar } from "../model/stop-then-replace/converge.ts";
import { LARGE, SMALL, type Scope } from "../model/stop-then-replace/scopes.ts";
import { stopThenReplace } from "../model/stop-then-replace/specification.ts";

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
  "a restored store": { ...SMALL, maxRestores: 1, maxEnds: 0 },
};
for (const [name, scope] of Object.entries(SCOPES)) {
  const spec = stopThenReplace(scope);
  const start = performance.now();
  const { states, transitions, depth, complete, found } = explore(spec, { maxStates: Number(values.states) });
  if (found !== undefined) throw new Error(`${name}:\n${printTrace(spec, found)}`);
  const seconds = ((performance.now() - start) / 1_000).toFixed(1);
  const extent = complete ? "all there are" : `breadth first to depth ${depth}`;
  console.log(`stopThenReplace, ${name}: ${states} states (${extent}), ${transitions} steps, ${seconds} s: all holds`);
}
const seed = Number(values.seed);
const { walks, steps, found } = walkFar(LARGE, { walks: Number(values.walks), length: 600, seed });
if (found !== undefined) throw new Error(`seed ${seed}:\n${printTrace(stopThenReplace(LARGE), found)}`);
console.log(`stopThenReplace, seed ${seed}: ${walks} walks, ${steps} steps: all holds, and each converges`);
