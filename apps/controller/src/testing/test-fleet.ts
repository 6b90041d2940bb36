/** The working half of a controller on a real Postgres, with a fleet of fake agents. */
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Lifetime, noFailpoints, silentLogger, type Failpoint, type Logger } from "@berth/base";
import {
  type ContainerSpecSchema,
  NamespaceSpecSchema,
  WorkloadSpecSchema,
  type ContainerSpec,
  type WorkloadSpec,
} from "@berth/proto";
import {
  getWorkload,
  insertNamespace,
  insertWorkload,
  listTasks,
  lockWorkload,
  openStore,
  updateWorkload,
  type Store,
  type TaskRow,
  type WorkloadRow,
} from "@berth/store";
import { eventually, scratchDir, startPostgres } from "@berth/testkit/servers";
import { startCampaigns } from "../campaign/campaigns.ts";
import { startDispatch } from "../dispatch/dispatch.ts";
import { startDrains } from "../drain/drains.ts";
import { startIngest } from "../ingest/ingest.ts";
import { startLeases } from "../lease/lease.ts";
import { startPlacement } from "../placement/placement.ts";
import { evictionConfig } from "../reconcile/fleet.ts";
import { startReconcile } from "../reconcile/reconcile.ts";
import { FakeAgent, type FakeAgentOptions } from "./fake-agent.ts";
import { MemoryWires } from "./memory-wires.ts";
import { noMetrics } from "./no-metrics.ts";

export type SpecInit = Omit<Exclude<MessageInitShape<typeof WorkloadSpecSchema>, WorkloadSpec>, "container"> & {
  readonly container?: Omit<Exclude<MessageInitShape<typeof ContainerSpecSchema>, ContainerSpec>, "$typeName">;
};

export interface TestDatabases extends AsyncDisposable {
  create(): Promise<string>;
  /** Dumps a database into a file, and gives its name. */
  dump(url: string): Promise<string>;
  /** An empty database, with the dump in it. */
  restore(file: string): Promise<string>;
}

/** One Postgres for a file of tests. */
export async function startTestDatabases(): Promise<TestDatabases> {
  const scratch = scratchDir("berth-controller");
  const server = await startPostgres({ dir: scratch.dir });
  let count = 0;
  const create = (): Promise<string> => {
    count += 1;
    return server.createDatabase(`test${count}`);
  };
  return {
    create,
    async dump(url) {
      count += 1;
      const file = join(scratch.dir, `test${count}.dump`);
      await server.dump(url, file);
      return file;
    },
    async restore(file) {
      const url = await create();
      await server.restore(url, file);
      return url;
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      scratch[Symbol.dispose]();
    },
  };
}

export const LEASE = { ttlMs: 500, renewMs: 60, fenceSlackMs: 300, maxRenewalsPerSecond: 10_000 };
export const EVICTION = evictionConfig({ evictAfterMs: 200, evictWindowMs: 2_000 });

export interface TestFleetOptions {
  readonly logger?: Logger;
  /** Long where a busy machine must make nobody silent. */
  readonly leaseTtlMs?: number;
}

export class TestFleet implements AsyncDisposable {
  store: Store;
  readonly wires = new MemoryWires();
  #url: string;
  readonly #logger: Logger;
  readonly #leaseTtlMs: number;
  readonly #lifetime = new Lifetime();
  #controller: Lifetime | undefined;

  private constructor(store: Store, url: string, logger: Logger, leaseTtlMs: number) {
    this.store = store;
    this.#url = url;
    this.#logger = logger;
    this.#leaseTtlMs = leaseTtlMs;
  }

  static async open(databases: TestDatabases, options: TestFleetOptions = {}): Promise<TestFleet> {
    const { logger = silentLogger, leaseTtlMs = LEASE.ttlMs } = options;
    const url = await databases.create();
    const fleet = new TestFleet(await openStore({ url }), url, logger, leaseTtlMs);
    await fleet.store.transaction((tx) =>
      insertNamespace(tx, { name: "shop", labels: {}, spec: create(NamespaceSpecSchema) }),
    );
    return fleet;
  }

  /** Starts a controller's loops on connections of their own; the one before must have ended. */
  async startController(failpoint: Failpoint = noFailpoints): Promise<void> {
    const lifetime = new Lifetime();
    this.#controller = lifetime;
    const store = lifetime.own(await openStore({ url: this.#url, migrate: false }));
    const common = { store, logger: this.#logger, failpoint };
    const { wires } = this;
    lifetime.own(
      await startDispatch({ ...common, queues: wires.queues, metrics: noMetrics.dispatch }, { pollMs: 200 }),
    );
    lifetime.own(await startPlacement({ ...common, metrics: noMetrics.placement }, { resyncMs: 300 }));
    lifetime.own(await startReconcile({ ...common, metrics: noMetrics.reconcile }, { resyncMs: 500, ...EVICTION }));
    lifetime.own(
      await startDrains({ store, logger: this.#logger }, { evictAfterMs: 200, evictWindowMs: 2_000, lookMs: 100 }),
    );
    lifetime.own(await startCampaigns({ ...common, metrics: noMetrics.reconcile }, { resyncMs: 500 }));
    lifetime.own(
      await startIngest(
        {
          ...common,
          metrics: noMetrics.ingest,
          consume: (shard, handler, signal) => wires.consume(shard, handler, signal),
          fetchJournal: async (node, request) => wires.agents.get(node)!.fetch(request),
        },
        { shards: 2, owner: "test", lagMs: 300 },
      ),
    );
    lifetime.own(
      await startLeases(
        { store, bus: wires.bus, logger: this.#logger, metrics: noMetrics.lease },
        { ...LEASE, ttlMs: this.#leaseTtlMs, eviction: EVICTION, shards: 2 },
      ),
    );
  }

  async stopController(): Promise<void> {
    const controller = this.#controller;
    this.#controller = undefined;
    await controller?.[Symbol.asyncDispose]();
  }

  /** Dumps the database as it is now. */
  dump(databases: TestDatabases): Promise<string> {
    return databases.dump(this.#url);
  }

  /** Puts the store back; the controller must have been stopped. */
  async restore(databases: TestDatabases, file: string): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    this.#url = await databases.restore(file);
    this.store = await openStore({ url: this.#url });
  }

  /** Adds an agent that renews its lease for as long as the test lasts. */
  async addAgent(name: string, options: FakeAgentOptions = {}): Promise<FakeAgent> {
    const agent = new FakeAgent(name, this.wires, options);
    this.wires.agents.set(name, agent);
    this.#lifetime.loop(
      async (signal) => {
        while (!signal.aborted) {
          // While no controller answers, it tries again: like a real one.
          await agent.beat().catch(() => undefined);
          await new Promise((resolve) => setTimeout(resolve, LEASE.renewMs));
        }
      },
      () => undefined,
    );
    if (this.#controller !== undefined) await eventually(`${name} has its lease`, () => agent.storeEpoch !== "");
    return agent;
  }

  /** Creates the workload, or gives it another spec, as the API does. */
  apply(name: string, spec: SpecInit, labels: Record<string, string> = {}): Promise<WorkloadRow> {
    const message = create(WorkloadSpecSchema, { ...spec, container: { image: "busybox", ...spec.container } });
    return this.store.transaction(async (tx) => {
      const row = await lockWorkload(tx, "shop", name);
      if (row !== undefined) return await updateWorkload(tx, row, { spec: message });
      return await insertWorkload(tx, { namespace: "shop", name, labels, spec: message });
    });
  }

  async delete(name: string): Promise<void> {
    await this.store.transaction(async (tx) => {
      const row = await lockWorkload(tx, "shop", name);
      if (row !== undefined) await updateWorkload(tx, row, { deletedAt: new Date() });
    });
  }

  workload(name: string): Promise<WorkloadRow | undefined> {
    return getWorkload(this.store.db, "shop", name);
  }

  async tasks(workload?: string): Promise<readonly TaskRow[]> {
    const query = workload === undefined ? {} : { workload };
    return (await listTasks(this.store.db, { namespace: "shop", pageSize: 1_000, ...query })).items;
  }

  /** Waits until exactly so many tasks are wanted and observed to run, and no others are left. */
  async converged(workload: string, running: number): Promise<readonly TaskRow[]> {
    return await eventually(
      `${workload} runs ${running} times`,
      async () => {
        const rows = await this.tasks(workload);
        const good = rows.filter(
          (row) => row.desired === "Run" && row.phase === "Running" && row.certainty === "observed",
        );
        if (good.length === running && rows.length === running) return rows;
        throw new Error(
          rows
            .map((row) => `${row.name} ${row.desired} ${row.phase} ${row.certainty} ${row.node} ${row.message}`)
            .join("; "),
        );
      },
      { timeoutMs: 15_000 },
    );
  }

  /** How often each execution was begun, over all agents. */
  starts(): Map<string, number> {
    const all = new Map<string, number>();
    for (const agent of this.wires.agents.values()) {
      for (const [key, count] of agent.starts) all.set(key, (all.get(key) ?? 0) + count);
    }
    return all;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lifetime[Symbol.asyncDispose]();
    await this.stopController();
    await this.store[Symbol.asyncDispose]();
  }
}
