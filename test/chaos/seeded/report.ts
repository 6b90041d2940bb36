/** What a night of chaos says in the end. */
import type { RunReport } from "./run.ts";

export function printRun({ seed, troubles, actions, convergedMs, drills, wrong }: RunReport): string {
  const verdict = wrong.length === 0 ? `converged ${seconds(convergedMs)} after the last healing` : "WRONG";
  const judged = drills.length === 0 ? "" : `drills: ${drills.join(", ")}; `;
  const head = `seed ${seed}: ${troubles.join(", ")}; ${actions.length} applies and deletes; ${judged}${verdict}`;
  return [head, ...wrong.map((each) => `    ${each}`)].join("\n");
}

export function printReport(runs: readonly RunReport[]): string {
  const times = runs.map(({ convergedMs }) => convergedMs).sort((a, b) => a - b);
  const at = (share: number): string =>
    seconds(times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0);
  const wrong = runs.filter((run) => run.wrong.length > 0);
  const troubles = Object.entries(Object.groupBy(runs.flatMap((run) => run.troubles), (each) => each)); // prettier-ignore
  const drills = Object.entries(Object.groupBy(runs.flatMap((run) => run.drills), (each) => each)); // prettier-ignore
  const applies = runs.reduce((sum, run) => sum + run.actions.length, 0);
  return [
    `${runs.length} runs, ${troubles.reduce((sum, [, each]) => sum + each!.length, 0)} troubles, ${applies} applies and deletes`,
    ...troubles
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, each]) => `  ${String(each!.length).padStart(4)}  ${name}`),
    ...(drills.length === 0
      ? []
      : [
          `drills: ${drills
            .map(([name, each]) => `${each!.length} ${name}`)
            .toSorted()
            .join(", ")}`,
        ]),
    `converged after the last healing: p50 ${at(0.5)}, p90 ${at(0.9)}, p99 ${at(0.99)}, longest ${at(1)}`,
    wrong.length === 0
      ? "no task lost, none twice where one is allowed, no terminal state changed, every journal whole"
      : `WRONG in ${wrong.length} runs: seeds ${wrong.map(({ seed }) => seed).join(", ")}`,
  ].join("\n");
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
