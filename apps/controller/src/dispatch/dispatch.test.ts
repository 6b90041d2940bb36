import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { noFailpoints, silentLogger, StatusError } from "@berth/base";
import { createJobQueues, JOB_BUNDLES, startJobWorker, type JobToAdd } from "@berth/jobs";
import { addToOutbox, openStore, outboxDepth, type NewJob, type Store } from "@berth/store";
import { eventually, scratchDir, startRedis, type RedisServer, type Scratch } from "@berth/testkit/servers";
import { noMetrics } from "../testing/no-metrics.ts";
import { addNode } from "../testing/test-api.ts";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { dispatchBatch, startDispatch, type DispatchDeps } from "./dispatch.ts";

let databases: TestDatabases;
let scratch: Scratch;
let redis: RedisServer;
before(async () => {
  databases = await startTestDatabases();
  scratch = scratchDir("berth-dispatch");
  redis = await startRedis({ dir: scratch.dir });
});
after(async () => {
  await redis[Symbol.asyncDispose]();
  scratch[Symbol.dispose]();
  await databases[Symbol.asyncDispose]();
});

const job = (node: string, id: string, name = "task.run"): NewJob => ({
  node,
  name,
  id,
  job: { revision: "3", task: { taskUid: id, generation: "1", attempt: 1 } },
});

const put = (store: Store, jobs: readonly NewJob[]): Promise<void> => store.transaction((tx) => addToOutbox(tx, jobs));

async function openBench(queues?: DispatchDeps["queues"]): Promise<DispatchDeps & { store: Store } & AsyncDisposable> {
  const store = await openStore({ url: await databases.create() });
  const own = queues === undefined ? createJobQueues({ redisUrl: redis.url, logger: silentLogger }) : undefined;
  return {
    store,
    queues: queues ?? own!,
    logger: silentLogger,
    metrics: noMetrics.dispatch,
    failpoint: noFailpoints,
    async [Symbol.asyncDispose]() {
      await own?.[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

/** Takes jobs of a node until the signal fires. */
function takeJobs(node: string): { readonly ids: string[] } & AsyncDisposable {
  const ids: string[] = [];
  const worker = startJobWorker({
    redisUrl: redis.url,
    node,
    logger: silentLogger,
    handle: async ({ data }) => void ids.push(data.task!.taskUid),
  });
  return { ids, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
}

void test("dispatchBatch hands each row to its node's queue and deletes it", async () => {
  await using bench = await openBench();
  await put(bench.store, [
    job("alpha", "run-1-1-1"),
    job("beta", "run-2-1-1"),
    job("alpha", "stop-3-1-1", "task.stop"),
  ]);
  assert.equal(await dispatchBatch(bench, 10), 3);
  assert.equal(await outboxDepth(bench.store.db), 0);
  await using alpha = takeJobs("alpha");
  await using beta = takeJobs("beta");
  await eventually("all jobs are taken", () => alpha.ids.length === 2 && beta.ids.length === 1);
  assert.deepEqual(alpha.ids, ["run-1-1-1", "stop-3-1-1"]);
});

void test("dispatchBatch lets those jobs travel together whose node's agent knows bundles", async () => {
  const added: JobToAdd[] = [];
  await using bench = await openBench({ addBulk: async (jobs) => void added.push(...jobs) });
  await addNode(bench.store, "new", {}, 60_000, [JOB_BUNDLES]);
  await addNode(bench.store, "old");
  await put(bench.store, ["new", "old", "unknown"].map((node) => job(node, "run-1-1-1"))); // prettier-ignore
  await dispatchBatch(bench, 10);
  assert.deepEqual(added.map(({ node, bundles }) => [node, bundles]), [["new", true], ["old", false], ["unknown", false]]); // prettier-ignore
});

void test("dispatchBatch takes the oldest rows first, whatever their jobs are called", async () => {
  const added: string[] = [];
  const queues = {
    addBulk(jobs: readonly JobToAdd[]): Promise<void> {
      added.push(...jobs.map(({ id }) => id));
      return Promise.resolve();
    },
  };
  await using bench = await openBench(queues);
  await put(bench.store, [
    job("alpha", "stop-9-1-1", "task.stop"),
    job("alpha", "run-9-2-1"),
    job("alpha", "run-10-1-1"),
  ]);
  assert.equal(await dispatchBatch(bench, 2), 2);
  assert.deepEqual(added, ["stop-9-1-1", "run-9-2-1"]);
});

void test("dispatchBatch adds a job once though it died after Redis had taken it", async () => {
  await using bench = await openBench();
  await put(bench.store, [job("gamma", "run-1-1-1"), job("gamma", "run-2-1-1")]);
  const dying = {
    ...bench,
    failpoint: (name: string): void => {
      if (name === "dispatch.after-add") throw new Error("died");
    },
  };
  await assert.rejects(dispatchBatch(dying, 10), /died/);
  assert.equal(await outboxDepth(bench.store.db), 2);
  assert.equal(await dispatchBatch(bench, 10), 2);
  assert.equal(await outboxDepth(bench.store.db), 0);
  await using gamma = takeJobs("gamma");
  await put(bench.store, [job("gamma", "run-3-1-1")]);
  await dispatchBatch(bench, 10);
  await eventually("the last job is taken", () => gamma.ids.includes("run-3-1-1"));
  assert.deepEqual(gamma.ids, ["run-1-1-1", "run-2-1-1", "run-3-1-1"]);
});

void test("startDispatch waits out an outage of Redis and loses nothing", async () => {
  await using bench = await openBench();
  let failed = 0;
  const metrics = { dispatched() {}, dispatchFailed: () => void (failed += 1) };
  await using _dispatch = await startDispatch({ ...bench, metrics }, { addTimeoutMs: 500 });
  await redis.stop();
  await put(bench.store, [job("delta", "run-1-1-1")]);
  await eventually("a try has failed", () => failed > 0);
  assert.equal(await outboxDepth(bench.store.db), 1);
  await redis.start();
  await eventually("the row has gone", async () => (await outboxDepth(bench.store.db)) === 0, { timeoutMs: 20_000 });
  await using delta = takeJobs("delta");
  await eventually("the job is taken", () => delta.ids.length === 1);
});

void test("startDispatch is rung by the commit, and two dispatchers add a job once", async () => {
  const added: JobToAdd[] = [];
  const queues = {
    addBulk: (jobs: readonly JobToAdd[]): Promise<void> => {
      added.push(...jobs);
      return Promise.resolve();
    },
  };
  await using bench = await openBench(queues);
  await using _one = await startDispatch(bench, { pollMs: 60_000 });
  await using _two = await startDispatch(bench, { pollMs: 60_000 });
  for (let n = 0; n < 20; n += 1) await put(bench.store, [job("alpha", `run-${n}-1-1`)]);
  await eventually("all are added", async () => (await outboxDepth(bench.store.db)) === 0);
  assert.deepEqual(added.map(({ id }) => id), Array.from({ length: 20 }, (_, n) => `run-${n}-1-1`)); // prettier-ignore
});

void test("dispatchBatch drops a row that no queue can take, and no other", async () => {
  const added: string[] = [];
  const queues = {
    addBulk(jobs: readonly JobToAdd[]): Promise<void> {
      if (jobs.some((each) => each.id === "bad")) return Promise.reject(new StatusError("INVALID_ARGUMENT", "bad id"));
      added.push(...jobs.map(({ id }) => id));
      return Promise.resolve();
    },
  };
  await using bench = await openBench(queues);
  await put(bench.store, [job("alpha", "run-1-1-1"), job("alpha", "bad"), job("alpha", "run-2-1-1")]);
  await dispatchBatch(bench, 10);
  assert.deepEqual(added, ["run-1-1-1", "run-2-1-1"]);
  assert.equal(await outboxDepth(bench.store.db), 0);
});
