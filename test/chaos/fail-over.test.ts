/**
 * Another server takes the place, and the address, of one that is lost, as docs/operations/servers.md says: a replica of Redis; a
 * synchronous standby of Postgres, which lacks nothing; one that lacks the last commits, which the fleet notices by itself.
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Lifetime } from "@berth/base";
import { HealthService, StatusService } from "@berth/proto";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
import { eventually, forwardPort, startRedis, startStandby, type PostgresStandby } from "@berth/testkit";
import { startSimulatedFleet, type SimulatedFleet } from "../support/simulated-fleet.ts";

const AGENTS = 6;
const NAMESPACE = "moved";
const WITHIN = { timeoutMs: 60_000, intervalMs: 200 };

void describe("a server whose place another one takes", { timeout: 240_000 }, () => {
  const lifetime = new Lifetime();
  const asked = new Map<string, number>();
  let fleet: SimulatedFleet;
  let status: GrpcClient<typeof StatusService>;
  let health: GrpcClient<typeof HealthService>;
  let epoch: string;
  /** Of Postgres: the one that takes writes, and what gives it the address. */
  let primary: PostgresStandby;
  let place: AsyncDisposable;

  before(async () => {
    const controller = { lease: { ttlMs: 6_000, renewMs: 1_000 }, resyncMs: 3_000 };
    fleet = lifetime.own(await startSimulatedFleet({ count: AGENTS, controller }));
    status = lifetime.own(createGrpcClient(StatusService, fleet.access));
    health = lifetime.own(createGrpcClient(HealthService, fleet.access));
    await fleet.namespaces.applyNamespace({ namespace: { metadata: { name: NAMESPACE } } });
    await eventually("all have their lease", async () => (await fleet.simulator.status()).leasesHeld === AGENTS);
    epoch = await storeEpoch();
  });
  after(() => lifetime[Symbol.asyncDispose]());

  const rows = async (statement: string): Promise<Record<string, unknown>[]> =>
    (await fleet.sql.unsafe(statement)).map((row) => Object.fromEntries(Object.entries(row)));
  const storeEpoch = async (): Promise<string> => (await health.getHealth({})).storeEpoch;
  const beside = (name: string): string => join(dirname(dirname(fleet.postgres.logFile)), name);

  /** Answered by the API: it has been stored. */
  async function apply(name: string, replicas: number): Promise<void> {
    const spec = { replicas, container: { image: "registry.example/app:v1" } };
    const workload = { metadata: { namespace: NAMESPACE, name }, spec };
    const answered = () => fleet.workloads.applyWorkload({ workload }, { timeoutMs: 5_000 });
    await eventually(`${name} is applied`, async () => await answered(), WITHIN);
    asked.set(name, replicas);
  }

  async function allRun(): Promise<void> {
    const wanted = [...asked].map(([workload, replicas]) => ({ workload, tasks: replicas, good: replicas }));
    wanted.sort((a, b) => (a.workload < b.workload ? -1 : 1));
    await eventually(
      "all that was asked for runs, and nothing else",
      async () => {
        const found = await rows(`
          select workload, count(*)::int as tasks,
            count(*) filter (where phase = 'Running' and certainty = 'observed' and desired = 'Run')::int as good
          from tasks where namespace = '${NAMESPACE}' group by workload order by workload`);
        assert.deepEqual(found, wanted);
        return true;
      },
      WITHIN,
    );
    const twice = await rows(`
      select name, attributes ->> 'generation', attributes ->> 'attempt', count(*) from events
      where topic = '/tasks/start' group by 1, uid, 2, 3 having count(*) > 1`);
    assert.deepEqual(twice, []);
  }

  const healthy = (): Promise<boolean> =>
    eventually(
      "berth status finds nothing to look at",
      async () => {
        const { verdict, findings } = await status.getFleetStatus({});
        if (verdict === "healthy") return true;
        throw new Error(findings.map(({ subject, message }) => `${subject}: ${message}`).join("; "));
      },
      WITHIN,
    );

  void test("a replica of Redis is promoted: what is applied meanwhile and afterwards is carried out", async () => {
    await apply("before", 4);
    await allRun();
    const { redis } = fleet;
    const replica = lifetime.own(await startRedis({ dir: beside("replica"), replicaOf: redis }));
    await redis.kill();
    await apply("without-redis", 3);
    await replica.promote();
    lifetime.own(await forwardPort(redis, replica));
    await apply("after-redis", 2);
    await allRun();
  });

  void test("a synchronous standby is promoted: nothing that was answered is lost, and nothing is held", async () => {
    const { postgres } = fleet;
    primary = lifetime.own(await startStandby(postgres, { dir: beside("standby-b"), name: "b" }));
    await postgres.query("alter system set synchronous_standby_names = 'b'");
    await postgres.query("select pg_reload_conf()");
    await eventually("it is synchronous", async () => {
      const [follower] = await postgres.query("select sync_state from pg_stat_replication");
      return follower?.["sync_state"] === "sync";
    });
    await apply("last", 3);
    await postgres.kill();
    await primary.promote();
    place = lifetime.own(await forwardPort(postgres, primary));
    await apply("after-postgres", 4);
    await allRun();
    await healthy();
    assert.equal(await storeEpoch(), epoch);
  });

  void test("one that lacks the last commits is promoted: the fleet notices, and stops nothing until that is confirmed", async () => {
    const late = lifetime.own(await startStandby(primary, { dir: beside("standby-c"), name: "c" }));
    await late.kill();
    await apply("forgotten", AGENTS);
    await allRun();
    await primary.kill();
    await place[Symbol.asyncDispose]();
    await late.start();
    await late.promote();
    lifetime.own(await forwardPort(fleet.postgres, late));
    await eventually("a new epoch of the store has begun", async () => (await storeEpoch()) !== epoch, WITHIN);
    asked.delete("forgotten");
    await allRun();
    // The containers that this store does not know of go on (D5).
    const ends = async (): Promise<number> =>
      (await rows("select from events where topic = '/tasks/stopped' and name like 'forgotten-%'")).length;
    assert.equal(await ends(), 0);
    await health.confirmStore({ storeEpoch: await storeEpoch() });
    await eventually("they have been stopped", async () => (await ends()) === AGENTS, WITHIN);
    await eventually("nothing is held any more", async () => !(await health.getHealth({})).held, WITHIN);
  });
});
