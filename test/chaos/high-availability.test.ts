/**
 * Several controllers, one control plane, and load that does not stop: controllers are killed one after the other, Postgres,
 * NATS and Redis are killed and come back, alone and together. Nothing is lost (every apply that was answered is carried out),
 * nothing doubled (each execution starts once, each journal is stored without a gap) and nothing stays stuck.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { after, before, describe, test } from "node:test";
import { Lifetime } from "@berth/base";
import { StatusService, WorkloadService, type FleetStatus } from "@berth/proto";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
import { createControllerProcess, eventually, freePort, type ControllerProcess } from "@berth/testkit";
import { startSimulatedFleet, type SimulatedFleet } from "../support/simulated-fleet.ts";

const AGENTS = 20;
const WORKLOADS = 8;
const NAMESPACE = "ha";

interface Member {
  readonly process: ControllerProcess;
  readonly workloads: GrpcClient<typeof WorkloadService>;
  readonly status: GrpcClient<typeof StatusService>;
}

describe("three controllers under load", { timeout: 300_000 }, () => {
  const lifetime = new Lifetime();
  let fleet: SimulatedFleet;
  let members: Member[] = [];

  before(async () => {
    const controller = { lease: { ttlMs: 8_000, renewMs: 1_000 }, resyncMs: 3_000 };
    fleet = lifetime.own(await startSimulatedFleet({ count: AGENTS, controller }));
    await fleet.namespaces.applyNamespace({ namespace: { metadata: { name: NAMESPACE } } });
    const dir = dirname(dirname(fleet.controller.logFile));
    const token = readFileSync(join(dir, "token"), "utf8").trim();
    const others = await Promise.all(
      ["second", "third"].map(async (name) => {
        const listen = { grpc: `127.0.0.1:${await freePort()}`, http: `127.0.0.1:${await freePort()}` };
        const servers = { databaseUrl: fleet.postgres.url, redisUrl: fleet.redis.url, natsUrl: fleet.nats.url };
        const config = { ...servers, ...controller, listen, logLevel: "warn", databaseConnections: 5 };
        const process = lifetime.own(createControllerProcess({ dir: join(dir, name), config }));
        await process.start();
        return process;
      }),
    );
    members = [fleet.controller, ...others].map((process) => {
      const access = { endpoint: process.grpcEndpoint.replace("http://", ""), token };
      const workloads = lifetime.own(createGrpcClient(WorkloadService, access));
      return { process, workloads, status: lifetime.own(createGrpcClient(StatusService, access)) };
    });
    await eventually("all have their lease", async () => (await fleet.simulator.status()).leasesHeld === AGENTS);
  });
  after(() => lifetime[Symbol.asyncDispose]());

  /** What was asked for last of each workload, and answered. */
  const asked = new Map<string, { readonly replicas: number; readonly word: string }>();

  /** Applies, scales and updates without pause, through whichever controller answers, until told to stop. */
  async function load(stop: AbortSignal): Promise<number> {
    let answered = 0;
    for (let turn = 0; !stop.aborted; turn += 1) {
      const name = `load-${turn % WORKLOADS}`;
      const wanted = { replicas: 3 + ((turn * 7) % 9), word: `w${Math.floor(turn / (WORKLOADS * 4))}` };
      const container = { image: "registry.example/app:v1", env: [{ name: "WORD", value: wanted.word }] };
      const spec = { replicas: wanted.replicas, container, rollout: { maxUnavailable: 3 } };
      const workload = { metadata: { namespace: NAMESPACE, name }, spec };
      const { workloads } = members[turn % members.length]!;
      try {
        await workloads.applyWorkload({ workload }, { timeoutMs: 5_000 });
        asked.set(name, wanted);
        answered += 1;
      } catch {
        // Not answered: it may have been stored. What counts is the next that is.
        asked.delete(name);
      }
      await delay(20);
    }
    return answered;
  }

  async function under(trouble: () => Promise<void>): Promise<void> {
    asked.clear();
    const stop = new AbortController();
    const loading = load(stop.signal);
    try {
      await trouble();
    } finally {
      stop.abort();
    }
    assert.ok((await loading) >= WORKLOADS, "there was load");
    await settled();
  }

  async function everyWorkloadApplied(): Promise<void> {
    asked.clear();
    await eventually("every workload was applied anew", () => asked.size === WORKLOADS, { timeoutMs: 30_000 });
  }

  /** Applies what was not answered last once more, and waits until all is as asked for. */
  async function settled(): Promise<void> {
    for (let index = 0; index < WORKLOADS; index += 1) {
      const name = `load-${index}`;
      const wanted = asked.get(name) ?? { replicas: 4, word: "last" };
      const container = { image: "registry.example/app:v1", env: [{ name: "WORD", value: wanted.word }] };
      const spec = { replicas: wanted.replicas, container, rollout: { maxUnavailable: 3 } };
      await eventually(`${name} is applied`, async () => {
        await members[0]!.workloads.applyWorkload({ workload: { metadata: { namespace: NAMESPACE, name }, spec } });
        return true;
      });
      asked.set(name, wanted);
    }
    await eventually("every workload is as it was asked for", everythingAsAsked, {
      timeoutMs: 60_000,
      intervalMs: 200,
    });
    assert.deepEqual(await doubles(), [], "executions that started twice");
    await eventually("every journal is stored", async () => (await fleet.simulator.status()).unstored === 0);
    assert.deepEqual(await gaps(), [], "journals with gaps");
    await eventually("berth status finds nothing to look at", async () => {
      const { verdict, findings } = await status();
      if (verdict === "healthy") return true;
      throw new Error(findings.map(({ subject, message }) => `${subject}: ${message}`).join("; "));
    });
  }

  const status = (): Promise<FleetStatus> => members[0]!.status.getFleetStatus({});

  async function everythingAsAsked(): Promise<true> {
    const rows = await fleet.sql<{ workload: string; tasks: number; good: number; words: string[] }[]>`
      select workload, count(*)::int as tasks,
        count(*) filter (where phase = 'Running' and certainty = 'observed' and desired = 'Run')::int as good,
        array_agg(distinct container -> 'env' -> 0 ->> 'value') as words
      from tasks where namespace = ${NAMESPACE} group by workload`;
    for (const [name, { replicas, word }] of asked) {
      const row = rows.find(({ workload }) => workload === name);
      const seen = `${row?.good} of ${row?.tasks} with ${row?.words.join()}`;
      if (row?.tasks !== replicas || row.good !== replicas || row.words.join() !== word)
        throw new Error(`${name}: ${seen}, wanted ${replicas} with ${word}`);
    }
    return true;
  }

  const doubles = async (): Promise<unknown[]> => [
    ...(await fleet.sql`
      select name, uid, attributes ->> 'generation' as generation, attributes ->> 'attempt' as attempt, count(*)::int
      from events where topic = '/tasks/start' group by 1, 2, 3, 4 having count(*) > 1`),
  ];

  const gaps = async (): Promise<unknown[]> => [
    ...(await fleet.sql`
      select node, journal_epoch, count(*)::int as stored, max(journal_seq)::int as last from events
      where journal_seq is not null group by 1, 2 having count(*) <> max(journal_seq)`),
  ];

  void test("share the work: each partition and shard has one of them", async () => {
    await eventually(
      "the work is shared",
      async () => {
        const { controllers } = await status();
        const partitions = controllers.map(({ reconcilePartitions }) => reconcilePartitions).sort((a, b) => a - b);
        const shards = controllers.reduce((sum, { journalShards }) => sum + journalShards, 0);
        if (partitions.join() === "2,3,3" && shards === 4) return true;
        throw new Error(`partitions ${partitions.join()}, ${shards} shards`);
      },
      { timeoutMs: 60_000 },
    );
    const [row] = await fleet.sql<{ count: number }[]>`
      select count(*)::int as count from pg_stat_activity where application_name like 'berth%'`;
    assert.ok(row!.count <= 10 + 5 + 5 + 3 * 2, `${row!.count} connections; the budgets and two more of each`);
  });

  void test("killed -9 one after the other and started again: nothing is lost, doubled or stuck", async () => {
    await under(async () => {
      for (const { process } of [members[1]!, members[2]!, members[0]!]) {
        await process.kill();
        const left = members.find((each) => each.process.running)!;
        await eventually(
          "the others have taken all of its work over",
          async () => {
            const { controllers } = await left.status.getFleetStatus({});
            const held = controllers.reduce((sum, { reconcilePartitions }) => sum + reconcilePartitions, 0);
            const shards = controllers.reduce((sum, { journalShards }) => sum + journalShards, 0);
            return controllers.length === 2 && held === 8 && shards === 4;
          },
          { timeoutMs: 30_000 },
        );
        await process.start();
      }
    });
  });

  const outages: readonly [string, () => readonly { kill(): Promise<void>; start(): Promise<void> }[]][] = [
    ["Postgres", () => [fleet.postgres]],
    ["NATS", () => [fleet.nats]],
    ["Redis", () => [fleet.redis]],
    ["Postgres and NATS", () => [fleet.postgres, fleet.nats]],
  ];
  for (const [what, serversOf] of outages) {
    void test(`${what} killed and started again amid load: nothing is lost, doubled or stuck`, async () => {
      await under(async () => {
        await everyWorkloadApplied();
        await Promise.all(serversOf().map((server) => server.kill()));
        await eventually(
          "the controller notices",
          async () => !(await fetch(`${fleet.controller.httpEndpoint}/readyz`)).ok,
        );
        await Promise.all(serversOf().map((server) => server.start()));
        await everyWorkloadApplied();
      });
    });
  }
});
