/**
 * `npm run soak -- partitions [--rounds 3] [--seed n] [--only NAME]`: every partition of the suite, in an order that the seed
 * gives, so many times over on one fleet.
 */
import { parseArgs } from "node:util";
import { seededRandom } from "@berth/base";
import { PARTITIONS } from "../support/partitions/faults.ts";
import { runPartitions } from "../support/partitions/suite.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
    only: { type: "string" },
  },
});
const seed = Number(values.seed);
const random = seededRandom(seed);
const names = Object.keys(PARTITIONS).filter((name) => values.only === undefined || name === values.only);
if (names.length === 0)
  throw new Error(`no partition is named ${values.only}; there are ${Object.keys(PARTITIONS).join("; ")}`);
const rounds = Array.from({ length: Number(values.rounds) }, () => shuffled(names)).flat();
console.log(`seed ${seed}, ${rounds.length} partitions`);
await runPartitions({ seed, partitions: rounds, log: (line) => console.log(line) });

function shuffled<T>(items: readonly T[]): T[] {
  return items.map((item) => ({ item, key: random() })).sort((a, b) => a.key - b.key).map(({ item }) => item); // prettier-ignore
}
