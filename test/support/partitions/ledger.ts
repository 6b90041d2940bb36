/**
 * What containers themselves wrote down: each instance of one appends CLOCK_BOOTTIME to a file of its own, ten times a second.
 * All test hosts share one kernel, so the times of all files can be compared. This is the truth that no journal can bend.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Instance {
  /** The task's name, and something of this start of it. */
  readonly name: string;
  readonly firstMs: number;
  readonly lastMs: number;
  /** The longest time between two of its marks. */
  readonly longestGapMs: number;
}

export class Ledger {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
  }

  /** What a container of this workload runs, with {@link mount}. */
  args(workload: string): string[] {
    const file = `/ledger/${workload}/$(hostname)@$(cat /proc/sys/kernel/random/uuid)`;
    mkdirSync(join(this.#directory, workload), { recursive: true });
    return ["sh", "-c", `f=${file}; while :; do cat /proc/uptime >> $f; sleep 0.1; done`];
  }

  get mount(): object {
    return { type: "bind", source: this.#directory, target: "/ledger" };
  }

  /** In the order in which they began. */
  instances(workload: string): Instance[] {
    const directory = join(this.#directory, workload);
    return readdirSync(directory)
      .map((name) => instanceOf(name, readFileSync(join(directory, name), "utf8")))
      .filter((instance) => instance !== undefined)
      .sort((a, b) => a.firstMs - b.firstMs);
  }

  /** No two of a workload of one replica ever ran at once. */
  neverTwice(workload: string): void {
    const instances = this.instances(workload);
    assert.ok(instances.length > 0, `${workload} ran`);
    for (const [index, next] of instances.entries()) {
      if (index === 0) continue;
      const before = instances[index - 1]!;
      const overlapMs = before.lastMs - next.firstMs;
      assert.ok(overlapMs < 0, `${workload}: ${before.name} and ${next.name} ran at once for ${overlapMs} ms`);
    }
  }

  /** Each task of it began once, and never paused for long: what is not fenced goes on. */
  wentOn(workload: string, tasks: readonly string[], longestGapMs: number): void {
    const instances = this.instances(workload);
    assert.deepEqual(
      instances.map(({ name }) => name.split("@")[0]!).sort(),
      [...tasks].sort(),
      `starts of ${workload}`,
    );
    for (const { name, longestGapMs: gap } of instances) assert.ok(gap < longestGapMs, `${name} paused for ${gap} ms`);
  }
}

function instanceOf(name: string, text: string): Instance | undefined {
  // The last line may be cut short: its writer was killed.
  const timesMs = text
    .split("\n")
    .slice(0, -1)
    .map((line) => Number(line.split(" ")[0]) * 1_000);
  if (timesMs.length === 0) return undefined;
  const gaps = timesMs.slice(1).map((at, index) => at - timesMs[index]!);
  return { name, firstMs: timesMs[0]!, lastMs: timesMs.at(-1)!, longestGapMs: Math.max(0, ...gaps) };
}
