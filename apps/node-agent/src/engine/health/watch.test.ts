/** What is told of a container by the answers of its probes, on a clock that the test moves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "@berth/base";
import type { Health, HealthPlan, ProbePlan } from "./probe-plan.ts";
import { watchHealth, type HealthReport } from "./watch.ts";

const probe = (port: number, more: Partial<ProbePlan> = {}): ProbePlan => ({
  check: { kind: "tcp", port },
  initialDelayMs: 0,
  intervalMs: 1_000,
  timeoutMs: 500,
  failureThreshold: 2,
  successThreshold: 1,
  ...more,
});
const STARTUP = 1;
const READINESS = 2;
const LIVENESS = 3;

class Lab {
  readonly clock = new ManualClock();
  readonly reports: HealthReport[] = [];
  /** Which probes succeed. */
  readonly good = new Set<number>([STARTUP, READINESS, LIVENESS]);
  readonly asked: number[] = [];
  readonly #end = new AbortController();
  ended = false;
  readonly done: Promise<void>;

  constructor(plan: HealthPlan, from: Health, bad: readonly number[] = []) {
    for (const port of bad) this.good.delete(port);
    const deps = {
      clock: this.clock,
      ask: (check: ProbePlan["check"]) => {
        const { port } = check as { readonly port: number };
        this.asked.push(port);
        return Promise.resolve(
          this.good.has(port) ? { success: true as const } : { success: false as const, why: "no" },
        );
      },
      report: (report: HealthReport) => {
        this.reports.push(report);
        return Promise.resolve();
      },
    };
    this.done = watchHealth(deps, plan, from, this.#end.signal)
      .catch(() => {})
      .finally(() => (this.ended = true));
  }

  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      await settle();
      this.clock.advance(1_000);
    }
    await settle();
  }

  get told(): string[] {
    return this.reports.map(({ health, reason }) => `${health} ${reason}`.trim());
  }

  async stop(): Promise<void> {
    this.#end.abort();
    await this.done;
  }
}

/** Lets what is ready run; nothing here waits for the machine. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

const ALL: HealthPlan = { startup: probe(STARTUP), readiness: probe(READINESS), liveness: probe(LIVENESS) };

test("watchHealth asks nothing else until the startup probe has succeeded", async () => {
  const lab = new Lab({ ...ALL, startup: probe(STARTUP, { failureThreshold: 5 }) }, "starting", [STARTUP]);
  await lab.pass(3);
  assert.deepEqual([new Set(lab.asked), lab.told], [new Set([STARTUP]), []]);
  lab.good.add(STARTUP);
  await lab.pass(2);
  assert.deepEqual(lab.told, ["healthy"]);
  assert.ok(lab.asked.includes(LIVENESS));
  await lab.stop();
});

test("watchHealth ends a container whose startup or liveness probe fails, and says why", async () => {
  const slow = new Lab(ALL, "starting", [STARTUP]);
  await slow.pass(2);
  assert.deepEqual([slow.told, slow.ended], [["failed StartupFailed"], true]);
  assert.equal(slow.reports[0]!.message, "its startup probe failed: no");
  const dead = new Lab(ALL, "starting");
  await dead.pass(2);
  dead.good.delete(LIVENESS);
  await dead.pass(1);
  assert.deepEqual(dead.told, ["healthy"], "one failure is not enough");
  await dead.pass(2);
  assert.deepEqual([dead.told, dead.ended], [["healthy", "failed LivenessFailed"], true]);
});

test("watchHealth tells each change of readiness once", async () => {
  const lab = new Lab({ readiness: probe(READINESS, { successThreshold: 2 }) }, "starting");
  await lab.pass(5);
  assert.deepEqual(lab.told, ["healthy"]);
  lab.good.delete(READINESS);
  await lab.pass(5);
  lab.good.add(READINESS);
  await lab.pass(1);
  assert.deepEqual(lab.told, ["healthy", "unhealthy Unready"], "one success is not enough");
  await lab.pass(5);
  assert.deepEqual(lab.told, ["healthy", "unhealthy Unready", "healthy"]);
  await lab.stop();
});

test("watchHealth of a restarted agent goes on from what was told before", async () => {
  const lab = new Lab(ALL, "healthy");
  await lab.pass(5);
  assert.deepEqual([lab.told, lab.asked.includes(STARTUP)], [[], false]);
  await lab.stop();
});

test("watchHealth never tells the same twice in a row, whatever the answers", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ ready: fc.boolean(), alive: fc.boolean() }), { maxLength: 12 }),
      async (answers) => {
        const lab = new Lab({ readiness: probe(READINESS), liveness: probe(LIVENESS) }, "starting");
        for (const { ready, alive } of answers) {
          for (const [port, good] of [
            [READINESS, ready],
            [LIVENESS, alive],
          ] as const) {
            if (good) lab.good.add(port);
            else lab.good.delete(port);
          }
          await lab.pass(1);
        }
        const { told } = lab;
        assert.ok(
          told.every((each, index) => each !== told[index - 1]),
          told.join(", "),
        );
        const end = told.findIndex((each) => each.startsWith("failed"));
        assert.ok(end < 0 || end === told.length - 1, "nothing follows a failure");
        await lab.stop();
      },
    ),
    { numRuns: 40 },
  );
});
