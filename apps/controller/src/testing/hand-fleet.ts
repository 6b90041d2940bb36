/**
 * A fleet whose every step is taken by hand, on a real Postgres: looks of reconcilers, passes of placers, what nodes take over and
 * what ends on them, journals stored late. Nothing happens by itself, so that a test chooses what comes between what.
 */
import { create } from "@bufbuild/protobuf";
import { hasCode, noFailpoints, silentLogger, StatusError } from "@berth/base";
import { parseCpu } from "@berth/model";
import {
  NamespaceSpecSchema,
  WorkloadSpecSchema,
  type AssignmentsReply,
  type JournalBatch,
  type TaskAssignment,
} from "@berth/proto";
import {
  assignmentPage,
  insertNamespace,
  insertWorkload,
  listTasks,
  lockWorkload,
  takeShard,
  updateWorkload,
  type Store,
  type TaskRow,
} from "@berth/store";
import { writeBatch } from "../ingest/write-batch.ts";
import { Placer } from "../placement/placement.ts";
import { evictionConfig } from "../reconcile/fleet.ts";
import { reconcileWorkload, Sight } from "../reconcile/workload.ts";
import { FakeAgent, type AgentWires } from "./fake-agent.ts";
import { noMetrics } from "./no-metrics.ts";
import { addNode } from "./test-api.ts";
import type { SpecInit } from "./test-fleet.ts";

/** As `addNode` makes them. */
export const NODE_CPU_MILLIS = 4_000;
const OWNER = { shard: 0 };

export class HandFleet {
  readonly store: Store;
  readonly agents: readonly FakeAgent[];
  readonly #placers: readonly Placer[];
  readonly #sights = [new Sight(evictionConfig({})), new Sight(evictionConfig({}))];
  readonly #published = new Map<string, JournalBatch[]>();
  #shardEpoch = 0;

  private constructor(store: Store, other: Store, nodes: number) {
    this.store = store;
    const wires: AgentWires = {
      lease: () => Promise.reject(new Error("nobody asks for a lease")),
      holdings: () => Promise.reject(new Error("nobody shows what it holds")),
      assignments: (node, { offset }): Promise<AssignmentsReply> =>
        store.snapshot((tx) => assignmentPage(tx, node, offset, 1_000)),
      publish: (_shard, batch) => {
        this.#published.set(batch.node, [...(this.#published.get(batch.node) ?? []), batch]);
      },
    };
    this.agents = Array.from({ length: nodes }, (_, n) => new FakeAgent(`node-${n}`, wires));
    const deps = { logger: silentLogger, metrics: noMetrics.placement, failpoint: noFailpoints };
    this.#placers = [store, other].map((own) => new Placer({ ...deps, store: own }, { batchSize: 3 }));
  }

  /** @param other connections of a second controller, to the same database, which is emptied of what another fleet left. */
  static async open(store: Store, other: Store, nodes: number): Promise<HandFleet> {
    const fleet = new HandFleet(store, other, nodes);
    await store.db.execute("truncate nodes, tasks, workloads, workload_revisions, namespaces, journal_state, outbox");
    await store.transaction((tx) =>
      insertNamespace(tx, { name: "shop", labels: {}, spec: create(NamespaceSpecSchema) }),
    );
    for (const { name } of fleet.agents) await addNode(store, name);
    await store.db.execute(
      `update nodes set conditions = '[{"type":"Stopper","status":"True"}]', resource_version = 2`,
    );
    fleet.#shardEpoch = await store.transaction((tx) => takeShard(tx, OWNER.shard, "hand"));
    return fleet;
  }

  async apply(name: string, spec: SpecInit): Promise<void> {
    // Another one makes it at the same time: then it is changed.
    await this.#apply(name, spec).catch((error: unknown) => {
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
      return this.#apply(name, spec);
    });
  }

  #apply(name: string, spec: SpecInit): Promise<unknown> {
    const message = create(WorkloadSpecSchema, { ...spec, container: { image: "busybox", ...spec.container } });
    return this.store.transaction(async (tx) => {
      const row = await lockWorkload(tx, "shop", name);
      if (row === undefined) return await insertWorkload(tx, { namespace: "shop", name, labels: {}, spec: message });
      return row.deletedAt === null ? await updateWorkload(tx, row, { spec: message }) : row;
    });
  }

  delete(name: string): Promise<unknown> {
    return this.store.transaction(async (tx) => {
      const row = await lockWorkload(tx, "shop", name);
      if (row !== undefined) await updateWorkload(tx, row, { deletedAt: new Date() });
    });
  }

  /** One look of one of two reconcilers. */
  async reconcile(which: number, name: string): Promise<void> {
    const uid = await this.#uidOf(name);
    if (uid === undefined) return;
    const look = this.store.transaction((tx) => reconcileWorkload(tx, uid, this.#sights[which]!));
    // Others were at its rows each time: the loop would come again.
    await look.catch((error: unknown) => {
      if (StatusError.from(error).code !== "ABORTED") throw error;
    });
  }

  async place(which: number): Promise<void> {
    await this.#placers[which]!.pass();
  }

  /** A node takes over what is assigned to it. */
  takeOver(node: number): Promise<void> {
    return this.agents[node]!.sync();
  }

  /** One of a node's containers ends. */
  end(node: number, which: number, exitCode: number): void {
    const agent = this.agents[node]!;
    const running = agent.running.toSorted((a, b) => (a.taskUid < b.taskUid ? -1 : 1));
    const task = running[which % Math.max(1, running.length)];
    if (task !== undefined) agent.exit(task.taskUid, exitCode);
  }

  /** Stores what was published until now. */
  async ingest(): Promise<void> {
    const batches = new Map(this.#published);
    this.#published.clear();
    if (batches.size === 0) return;
    const owner = { ...OWNER, epoch: this.#shardEpoch };
    await this.store.transaction((tx) => writeBatch(tx, owner, batches, new Set()));
  }

  /** What waits for a time is due. */
  async passTime(): Promise<void> {
    await this.store.db.execute(`update tasks set next_attempt_at = now(), resource_version = resource_version + 1
      where next_attempt_at is not null`);
  }

  async tasks(): Promise<readonly TaskRow[]> {
    return (await listTasks(this.store.db, { namespace: "shop", pageSize: 1_000 })).items;
  }

  /** What runs or may run on each node: as its row says, and as the node itself has it, whichever asks for more. */
  async load(): Promise<ReadonlyMap<string, { readonly cpuMillis: number; readonly hostPorts: readonly string[] }>> {
    const rows = await this.tasks();
    const mayRun = rows.filter(({ node, phase }) => node !== null && !ENDED.has(phase));
    const byNode = Map.groupBy(mayRun, ({ node }) => node!);
    return new Map(
      this.agents.map((agent) => {
        const asked = new Map(
          (byNode.get(agent.name) ?? []).map((row) => [row.uid, askOf(row.container as Container)]),
        );
        for (const { taskUid, container } of agent.running as readonly TaskAssignment[]) {
          const [runs, wanted] = [askOf(container as Container), asked.get(taskUid)];
          asked.set(taskUid, {
            cpuMillis: Math.max(runs.cpuMillis, wanted?.cpuMillis ?? 0),
            hostPorts: [...new Set([...runs.hostPorts, ...(wanted?.hostPorts ?? [])])],
          });
        }
        const all = [...asked.values()];
        const cpuMillis = all.reduce((sum, each) => sum + each.cpuMillis, 0);
        return [agent.name, { cpuMillis, hostPorts: all.flatMap((each) => each.hostPorts) }];
      }),
    );
  }

  async #uidOf(name: string): Promise<string | undefined> {
    const [row] = await this.store.db.execute<{ uid: string }>(`select uid from workloads where name = '${name}'`);
    return row?.uid;
  }
}

const ENDED: ReadonlySet<string> = new Set(["Succeeded", "Failed", "Stopped"]);

interface Container {
  readonly resources?: { readonly cpu?: string };
  readonly network?: { readonly ports?: readonly { readonly hostPort?: number }[] };
}

function askOf({ resources, network }: Container): { cpuMillis: number; hostPorts: string[] } {
  return {
    cpuMillis: parseCpu(resources?.cpu ?? "0"),
    hostPorts: (network?.ports ?? []).map(({ hostPort }) => String(hostPort)),
  };
}
