/** Drills on simulated agents: a slice is cut off and heals by itself, also when the controller is killed amid it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { DrillService, type DrillStep } from "@berth/proto";
import { createGrpcClient } from "@berth/rpc";
import { eventually } from "@berth/testkit";
import { startSimulatedFleet, type SimulatedFleet } from "../support/simulated-fleet.ts";

const AGENTS = 6;
const BERTH = join(import.meta.dirname, "../../bin/berth");
const container = {
  image: "registry.example/app:v1",
  resources: { cpu: "10m", memory: "16Mi" },
  stop: { grace: durationFromMs(1_000) },
};

async function collect<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const each of from) all.push(each);
  return all;
}

describe("drill partition", () => {
  let fleet: SimulatedFleet;
  before(async () => {
    fleet = await startSimulatedFleet({
      count: AGENTS,
      controller: { lease: { ttlMs: 3_000, renewMs: 500, fenceSlackMs: 1_500 } },
    });
    await fleet.namespaces.applyNamespace({ namespace: { metadata: { name: "sim" } } });
    await eventually("all have their lease", async () => (await fleet.simulator.status()).leasesHeld === AGENTS);
    for (const [name, onNodeLoss] of [
      ["web", "replace"],
      ["ledger", "stopThenReplace"],
    ] as const)
      // prettier-ignore
      await fleet.workloads.applyWorkload({
        workload: { metadata: { namespace: "sim", name }, spec: { replicas: AGENTS * 2, container, onNodeLoss } },
      });
    await allRun();
  });
  after(() => fleet[Symbol.asyncDispose]());

  const allRun = () =>
    eventually(
      "all run",
      async () => {
        const [row] = await fleet.sql<{ n: number }[]>`select count(*)::int as n from tasks
          where desired = 'Run' and phase = 'Running' and certainty = 'observed'`;
        return row!.n === AGENTS * 4;
      },
      { timeoutMs: 60_000 },
    );
  const phases = async (): Promise<string[]> => {
    const rows = await fleet.sql<{ phase: string }[]>`select distinct phase from nodes order by 1`;
    return rows.map(({ phase }) => phase);
  };
  const drills = () => createGrpcClient(DrillService, fleet.access);
  const request = { selector: "berth.io/zone=z1", maxNodes: 2 };

  void test("is refused past its bounds, and a dry run cuts nothing", async () => {
    using client = drills();
    const run = async (more: object): Promise<DrillStep[]> =>
      await collect(client.runDrill({ ...request, duration: durationFromMs(5_000), ...more }));
    await assert.rejects(run({ maxNodes: 1 }), /maxNodes|field/);
    const [planned] = await run({ dryRun: true });
    assert.equal(planned?.step, "Planned");
    assert.equal(planned.nodes.length, 2);
    assert.equal(planned.tasks.length > 0, true);
    assert.deepEqual(await phases(), ["Ready"]);
  });

  void test("is a command: it tells what would be hit, names the field of a refusal, and reports", async () => {
    const berth = async (...args: string[]) => {
      const env = { ...process.env, BERTH_ENDPOINT: fleet.access.endpoint, BERTH_TOKEN: fleet.access.token };
      const child = spawn(BERTH, ["drill", "partition", "--for", "5s", ...args], { env });
      const [stdout, stderr, [code]] = await Promise.all([
        text(child.stdout),
        text(child.stderr),
        once(child, "close") as Promise<[number]>,
      ]);
      return { code, stdout, stderr };
    };
    const planned = await berth("-l", request.selector, "--max-nodes", "2", "--dry-run", "-o", "json");
    assert.equal(planned.code, 0, planned.stderr);
    assert.match(planned.stdout, /"step": "Planned"/);
    const refused = await berth("-l", request.selector);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /maxNodes: .* matches 2 nodes .* raise --max-nodes/);
    const run = await berth("-l", request.selector, "--max-nodes", "2");
    assert.equal(run.code, 0, run.stdout + run.stderr);
    assert.match(run.stdout, /Started .*\n[^]* {2}held {4}no task was lost\n/);
    await allRun();
  });

  void test("is noticed, what must be is replaced, heals, converges, and every invariant holds", async () => {
    using client = drills();
    const steps: DrillStep[] = [];
    for await (const step of client.runDrill({ ...request, duration: durationFromMs(12_000) })) {
      steps.push(step);
      if (step.step !== "Started") continue;
      using other = drills();
      await assert.rejects(collect(other.runDrill({ ...request, duration: durationFromMs(5_000) })), /under way/);
    }
    const count = (name: string): number => steps.filter(({ step }) => step === name).length;
    const report = steps.at(-1)?.report;
    assert.deepEqual(
      report?.invariants.filter(({ held }) => !held),
      [],
    );
    assert.equal(report?.verdict, "Passed");
    assert.deepEqual([count("Noticed"), count("Healed"), count("Converged")], [2, 2, 1]);
    assert.ok(count("Replaced") > 0);
    const topics = await fleet.sql<{ topic: string }[]>`
      select distinct topic from events where topic like '/drills/%' order by 1`;
    assert.deepEqual(
      topics.map(({ topic }) => topic),
      ["converged", "end", "healed", "noticed", "replaced", "start"].map((each) => `/drills/${each}`),
    );
    await allRun();
  });

  void test("heals although the controller was killed amid it, and agents that are started again stay cut off until its end", async () => {
    using client = drills();
    let begun = false;
    await assert.rejects(async () => {
      for await (const { step } of client.runDrill({ ...request, duration: durationFromMs(15_000) })) {
        if (step !== "Started") continue;
        begun = true;
        await fleet.simulator.kill();
        await fleet.controller.kill();
        await fleet.simulator.start();
      }
    });
    assert.equal(begun, true);
    await fleet.controller.start();
    await eventually(
      "the others have their lease",
      async () => (await fleet.simulator.status()).leasesHeld >= AGENTS - 2,
    );
    await eventually("the slice is noticed", async () => (await phases()).includes("Unknown"));
    await eventually("all are back", async () => (await phases()).join() === "Ready", { timeoutMs: 60_000 });
    await allRun();
  });
});
