/** Watches lose nothing and show nothing twice, whatever commits late and however often they are resumed. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { seededRandom, type Random } from "@berth/base";
import {
  ContainerSpecSchema,
  EventService,
  NamespaceService,
  TaskService,
  WorkloadService,
  WorkloadSpecSchema,
  type Workload,
} from "@berth/proto";
import {
  insertEvents,
  insertTasks,
  insertWorkload,
  listWorkloads,
  lockWorkload,
  removeWorkload,
  retirePartition,
  updateTasks,
  updateWorkload,
  type Store,
  type Tx,
} from "@berth/store";
import { closePartition } from "@berth/store/testing";
import { eventually } from "@berth/testkit/servers";
import { newTask, startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";

let servers: TestServers;
let api: TestApi;
before(async () => {
  servers = await startTestServers();
  api = await servers.api();
  for (const name of ["demo", "other", "late"]) {
    await api.client(NamespaceService).applyNamespace({ namespace: { metadata: { name } } });
  }
});
after(async () => {
  await api[Symbol.asyncDispose]();
  await servers[Symbol.asyncDispose]();
});

const spec = create(WorkloadSpecSchema, { replicas: 1, container: create(ContainerSpecSchema, { image: "a" }) });

/** A transaction whose commit waits until it is let go. */
interface HeldWrite {
  readonly written: Promise<void>;
  commit(): Promise<void>;
}

function holdWrite(store: Store, write: Parameters<Store["transaction"]>[0]): HeldWrite {
  const written = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const done = store.transaction(async (tx) => {
    await write(tx);
    written.resolve();
    await gate.promise;
  });
  done.catch(written.reject);
  return {
    written: written.promise,
    async commit() {
      gate.resolve();
      await done;
    },
  };
}

/** Writes in overlapping transactions that commit in another order than they wrote. */
async function writeAtRandom(store: Store, random: Random, names: readonly string[], steps: number): Promise<void> {
  const open = new Map<string, HeldWrite>();
  const commitOne = async (): Promise<void> => {
    const keys = [...open.keys()];
    const name = keys[Math.floor(random() * keys.length)]!;
    await open.get(name)!.commit();
    open.delete(name);
  };
  for (let step = 0; step < steps; step += 1) {
    const name = names[Math.floor(random() * names.length)]!;
    if (open.size >= 4 || open.has(name)) await commitOne();
    if (open.has(name)) continue;
    const removal = random() < 0.25;
    const held = holdWrite(store, async (tx) => {
      const row = await lockWorkload(tx, "late", name);
      if (row === undefined) await insertWorkload(tx, { namespace: "late", name, labels: {}, spec });
      else if (removal) await removeWorkload(tx, row);
      else await updateWorkload(tx, row, { labels: { step: String(step) } });
    });
    await held.written;
    open.set(name, held);
  }
  while (open.size > 0) await commitOne();
}

/** Follows a watch that is cut and resumed again and again; what it saw, in order. */
class Follower {
  readonly state = new Map<string, Workload>();
  readonly seen: string[] = [];
  #cursor = "";
  readonly #stop = new AbortController();
  readonly done: Promise<void>;

  constructor(random: Random) {
    this.done = this.#run(random);
  }

  stop(): Promise<void> {
    this.#stop.abort();
    return this.done;
  }

  async #run(random: Random): Promise<void> {
    const client = api.client(WorkloadService);
    while (!this.#stop.signal.aborted) {
      const patience = 1 + Math.floor(random() * 12);
      let got = 0;
      try {
        for await (const { event, workload } of client.watchWorkloads(
          { namespace: "late", cursor: this.#cursor },
          { signal: this.#stop.signal },
        )) {
          if (event!.cursor !== "") this.#cursor = event!.cursor;
          if (workload !== undefined) this.#apply(event!.type, workload);
          got += 1;
          // A snapshot that is cut short has no cursor to resume from: it is read to its end.
          if (got >= patience && this.#cursor !== "") break;
        }
      } catch (error) {
        if (!this.#stop.signal.aborted) throw error;
      }
    }
  }

  #apply(type: string, workload: Workload): void {
    const { uid, resourceVersion } = workload.metadata!;
    this.seen.push(`${uid} ${type === "DELETED" ? "gone" : resourceVersion}`);
    if (type === "DELETED") this.state.delete(uid);
    else this.state.set(uid, workload);
  }
}

for (const seed of [1, 2, 3]) {
  test(`watchWorkloads resumes without loss or double while transactions commit late (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const names = Array.from({ length: 6 }, (_, i) => `w-${i}`);
    const followers = [new Follower(seededRandom(seed * 100))];
    // While this one is open, nothing after it is in the feed yet; a snapshot taken meanwhile shows it all the same.
    const old = holdWrite(api.store, (tx) =>
      insertWorkload(tx, { namespace: "late", name: `old-${seed}`, labels: {}, spec }),
    );
    await old.written;
    await writeAtRandom(api.store, random, names, 20);
    const late = new Follower(seededRandom(seed * 200));
    followers.push(late);
    await eventually("the snapshot", () => late.state.size > 0);
    await old.commit();
    await writeAtRandom(api.store, random, names, 60);
    const { items } = await listWorkloads(api.store.db, { namespace: "late" });
    const wanted = new Map(items.map((row) => [row.uid, String(row.resourceVersion)]));
    for (const follower of followers) {
      await eventually("the follower has caught up", () => {
        const has = [...follower.state].map(([uid, { metadata }]) => `${uid} ${metadata!.resourceVersion}`).sort();
        return (
          has.join() ===
          [...wanted]
            .map(([uid, version]) => `${uid} ${version}`)
            .sort()
            .join()
        );
      });
      await follower.stop();
      assert.equal(new Set(follower.seen).size, follower.seen.length, "nothing was shown twice");
      for (const uid of wanted.keys()) assertWithoutGaps(follower.seen, uid);
    }
  });
}

/** Versions of one object that a watch saw rise by one: no change was lost on the way. */
function assertWithoutGaps(seen: readonly string[], uid: string): void {
  const versions = seen.filter((entry) => entry.startsWith(uid)).map((entry) => Number(entry.split(" ")[1]));
  for (let i = 1; i < versions.length; i += 1)
    assert.equal(versions[i], versions[i - 1]! + 1, `versions of ${uid}: ${versions.join()}`);
}

test("watchWorkloads never goes back when a transaction that began earlier writes an object later", async () => {
  const { store } = api;
  const client = api.client(WorkloadService);
  const label = async (tx: Tx, step: string): Promise<unknown> =>
    await updateWorkload(tx, (await lockWorkload(tx, "other", "w"))!, { labels: { step } });
  await client.applyWorkload({ workload: { metadata: { name: "w", namespace: "other" }, spec } });
  const { cursor } = await client.listWorkloads({ namespace: "other" });
  const seen: string[] = [];
  const stop = new AbortController();
  const watching = (async () => {
    const query = { namespace: "other", cursor };
    for await (const { workload } of client.watchWorkloads(query, { signal: stop.signal })) {
      const { name, labels } = workload!.metadata!;
      seen.push(`${name} ${labels["step"] ?? ""}`.trim());
    }
  })().catch(() => {});
  const begun = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  const early = store.transaction(async (tx) => {
    await insertWorkload(tx, { namespace: "other", name: "first", labels: {}, spec });
    begun.resolve();
    await second.promise;
    await label(tx, "2");
  });
  await begun.promise;
  await store.transaction((tx) => label(tx, "1"));
  second.resolve();
  await early;
  await store.transaction((tx) => insertWorkload(tx, { namespace: "other", name: "end", labels: {}, spec }));
  await eventually("all is seen", () => seen.at(-1) === "end");
  stop.abort();
  await watching;
  assert.deepEqual(seen, ["first", "w 2", "end"]);
  // Whoever resumes amid these is not led back either.
  const again: string[] = [];
  for await (const { workload } of client.watchWorkloads({ namespace: "other", cursor })) {
    again.push(workload!.metadata!.name);
    if (workload!.metadata!.name === "end") break;
  }
  assert.deepEqual(again, ["first", "w", "end"]);
});

test("watchWorkloads begins with what is there and ends the snapshot with a cursor", async () => {
  const client = api.client(WorkloadService);
  const apply = (name: string, labels: Record<string, string>) =>
    client.applyWorkload({ workload: { metadata: { name, namespace: "demo", labels }, spec } });
  await apply("a", { tier: "web" });
  await apply("b", { tier: "db" });
  const events: string[] = [];
  const stop = new AbortController();
  const watching = (async () => {
    const request = { namespace: "demo", selector: "tier=web" };
    for await (const { event, workload } of client.watchWorkloads(request, { signal: stop.signal })) {
      events.push(`${event!.type} ${workload?.metadata?.name ?? ""}`);
      assert.equal(event!.type === "ADDED" && events.length === 1, event!.cursor === "");
    }
  })().catch(() => {});
  await eventually("the snapshot", () => events.length === 2);
  await apply("c", { tier: "db" });
  await apply("c", { tier: "web" });
  await apply("c", { tier: "web", more: "x" });
  await apply("a", { tier: "db" });
  await eventually("the changes", () => events.length === 5);
  stop.abort();
  await watching;
  assert.deepEqual(events, ["ADDED a", "SNAPSHOT_END ", "ADDED c", "MODIFIED c", "DELETED a"]);
});

test("watchTasks follows the tasks of a node as they are placed", async () => {
  const seen: string[] = [];
  const stop = new AbortController();
  const client = api.client(TaskService);
  const watching = (async () => {
    for await (const { event, task } of client.watchTasks({ namespace: "-", node: "n1" }, { signal: stop.signal })) {
      seen.push(`${event!.type} ${task?.metadata?.name ?? ""} ${task?.status?.phase ?? ""}`.trim());
    }
  })().catch(() => {});
  await eventually("the snapshot", () => seen.length === 1);
  const [row] = await api.store.transaction((tx) => insertTasks(tx, [newTask("demo", "t-0")]));
  const [placed] = await api.store.transaction((tx) =>
    updateTasks(tx, [{ before: row!, patch: { node: "n1", phase: "Assigned" } }]),
  );
  await api.store.transaction((tx) => updateTasks(tx, [{ before: placed!, patch: { phase: "Running" } }]));
  await eventually("the changes", () => seen.length === 3);
  stop.abort();
  await watching;
  assert.deepEqual(seen, ["SNAPSHOT_END", "ADDED t-0 Assigned", "MODIFIED t-0 Running"]);
});

test("a list's cursor is where a watch goes on", async () => {
  const client = api.client(WorkloadService);
  const { cursor } = await client.listWorkloads({ namespace: "other" });
  await client.applyWorkload({ workload: { metadata: { name: "x", namespace: "other" }, spec } });
  for await (const { event, workload } of client.watchWorkloads({ namespace: "other", cursor })) {
    assert.equal(event?.type, "ADDED");
    assert.equal(workload?.metadata?.name, "x");
    break;
  }
});

test("watchEvents follows from now, and resumes", async () => {
  const client = api.client(EventService);
  const add = (name: string) =>
    api.store.transaction((tx) => insertEvents(tx, [{ namespace: "demo", topic: "/tasks/start", kind: "Task", name }]));
  await add("before");
  let cursor = "";
  for await (const { event } of client.watchEvents({ namespace: "demo" })) {
    assert.equal(event?.type, "SNAPSHOT_END");
    cursor = event.cursor;
    break;
  }
  for (const name of ["e1", "other", "e2", "e3"]) await add(name);
  const names: string[] = [];
  for (const wanted of [1, 3]) {
    for await (const { event, item } of client.watchEvents({
      namespace: "demo",
      cursor,
      filters: ["name~=/^e[0-9]$/"],
    })) {
      names.push(item!.name);
      cursor = event!.cursor;
      if (names.length === wanted) break;
    }
  }
  assert.deepEqual(names, ["e1", "e2", "e3"]);
});

test("a cursor that has expired, or is none, is refused with what to do", async () => {
  const client = api.client(WorkloadService);
  const watch = async (cursor: string): Promise<void> => {
    for await (const _ of client.watchWorkloads({ namespace: "-", cursor })) return;
  };
  const { cursor } = await client.listWorkloads({ namespace: "-" });
  await client.applyWorkload({ workload: { metadata: { name: "late", namespace: "other" }, spec } });
  await api.store.transaction((tx) => closePartition(tx, "changes"));
  await eventually("the feed to be pruned", async () => (await retirePartition(api.store, "changes", 0)) !== undefined);
  await assert.rejects(watch(cursor), { code: "OUT_OF_RANGE", reason: "CURSOR_EXPIRED", message: /list again/ });
  await assert.rejects(watch("nonsense"), { code: "INVALID_ARGUMENT", reason: "CURSOR_INVALID" });
  const response = await fetch(`${api.url}/v1/namespaces/-/workloads:watch?cursor=${cursor}`, {
    headers: { authorization: `Bearer ${api.token}` },
  });
  assert.equal(response.status, 410);
  await response.arrayBuffer();
});
