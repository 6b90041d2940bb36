/** Both sides against a real redis-server: at-least-once delivery, wipes, restarts, denials, unreadable jobs. */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { hasCode, silentLogger, type Logger } from "@berth/base";
import { JobSchema, type Job } from "@berth/proto";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import {
  createJobQueues,
  decodeJob,
  encodeJob,
  queueName,
  shareJobConnections,
  startJobWorker,
  type JobQueues,
  type JobToAdd,
} from "./index.ts";
import { startTestRedis, type TestRedis } from "./testing/redis-server.ts";

function runJob(uid: string): Job {
  return create(JobSchema, {
    storeEpoch: "epoch-1",
    revision: 7n,
    task: { namespace: "shop", taskUid: uid, name: `web-${uid}`, generation: 3n, attempt: 1, desired: "Run" },
  });
}

function toAdd(node: string, uid: string): JobToAdd {
  return { node, name: "task.run", id: `${uid}-3-1`, data: encodeJob(runJob(uid)) };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 20_000;
  while (!(await holds())) {
    if (Date.now() > end) assert.fail(`not within 20 s: ${what}`);
    await delay(20);
  }
}

describe("jobs on a real Redis", () => {
  let redis: TestRedis;
  let queues: JobQueues;
  const cleanup: AsyncDisposable[] = [];
  beforeEach(async () => {
    redis = await startTestRedis();
    queues = createJobQueues({ redisUrl: redis.url, logger: silentLogger });
  });
  afterEach(async () => {
    for (const each of cleanup.splice(0).reverse()) await each[Symbol.asyncDispose]();
    await queues[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  });
  const worker = (node: string, seen: string[], url = redis.url, logger: Logger = silentLogger) => {
    const started = startJobWorker({
      redisUrl: url,
      node,
      logger,
      maxBackoffMs: 2_000,
      handle: async ({ data }) => void seen.push(data.task!.taskUid),
    });
    cleanup.push(started);
    return started;
  };

  test("addBulk hands each job to its own node once and leaves nothing behind", async () => {
    const a: string[] = [];
    const b: string[] = [];
    worker("a", a);
    worker("b", b);
    await queues.addBulk([toAdd("a", "t1"), toAdd("b", "t2"), toAdd("a", "t3")]);
    await until("both nodes have theirs", () => a.length === 2 && b.length === 1);
    assert.deepEqual([a.toSorted(), b], [["t1", "t3"], ["t2"]]);
    await until("depth is 0", async () => (await queues.depth()) === 0);
    const client = new Redis(redis.url);
    assert.deepEqual(await client.keys("bull:{node-a}:t*"), []);
    client.disconnect();
  });

  test("workers of many nodes share a few connections and get each job once, also those that came while they were busy", async () => {
    const nodes = Array.from({ length: 150 }, (_, index) => `n${index}`);
    const seen: string[] = [];
    await queues.addBulk(nodes.slice(0, 20).map((node) => toAdd(node, `early-${node}`)));
    const connections = shareJobConnections({ redisUrl: redis.url, logger: silentLogger });
    cleanup.push(connections);
    const handle = async ({ data }: { readonly data: Job }): Promise<void> => void seen.push(data.task!.taskUid);
    for (const node of nodes) {
      cleanup.push(startJobWorker({ redisUrl: redis.url, node, logger: silentLogger, connections, handle }));
    }
    for (const round of [1, 2, 3]) {
      await queues.addBulk(
        nodes.flatMap((node) => [toAdd(node, `${node}-a${round}`), toAdd(node, `${node}-b${round}`)]),
      );
      await until(`round ${round}`, () => seen.length === 20 + round * 2 * nodes.length);
    }
    assert.equal(new Set(seen).size, seen.length);
    const client = new Redis(redis.url);
    // One to take jobs, two to wait for 150 queues, the dispatcher's and this one.
    assert.ok(((await client.client("LIST")) as string).trim().split("\n").length <= 5);
    client.disconnect();
  });

  test("a node that looked while it was rung for looks again before it waits", async () => {
    const lookMs = 1_000;
    const connections = shareJobConnections({ redisUrl: redis.url, logger: silentLogger, lookMs });
    const source = connections.open("n1", 30_000);
    const client = new Redis(redis.url);
    cleanup.push(connections, { [Symbol.asyncDispose]: () => source.close() });
    // It has waited in vain; the connection waits for its marker still.
    assert.equal(await source.next(), undefined);
    await queues.addBulk([toAdd("n1", "meanwhile")]);
    await until("its marker was taken", async () => (await client.exists(`bull:${queueName("n1")}:marker`)) === 0);
    // What was taken before is heard of before these answers.
    for (let answers = 0; answers < 5; answers += 1) await client.ping();
    const startMs = performance.now();
    const job = await source.next();
    assert.equal(job?.id, "meanwhile-3-1");
    assert.ok(performance.now() - startMs < lookMs / 2, "it waited");
    await source.finish(job, undefined);
    client.disconnect();
  });

  test("a worker with shared connections goes on after Redis was killed and came back empty", async () => {
    const connections = shareJobConnections({ redisUrl: redis.url, logger: silentLogger });
    cleanup.push(connections);
    const seen: string[] = [];
    const handle = async ({ data }: { readonly data: Job }): Promise<void> => void seen.push(data.task!.taskUid);
    cleanup.push(startJobWorker({ redisUrl: redis.url, node: "a", logger: silentLogger, connections, handle }));
    await queues.addBulk([toAdd("a", "t1")]);
    await until("first", () => seen.length === 1);
    await redis.stop();
    await redis.start();
    await until("second", async () => {
      await queues.addBulk([toAdd("a", "t2")]).catch(() => {});
      return seen.includes("t2");
    });
  });

  test("addBulk bundles the jobs of a node that knows bundles, and each is handled under its own id", async () => {
    const bundled = (node: string): JobToAdd[] =>
      Array.from({ length: 40 }, (_, index) => ({ ...toAdd(node, `${node}-${index}`), bundles: true }));
    const jobs = [...bundled("a"), { ...toAdd("b", "alone"), bundles: true }, toAdd("c", "c-0"), toAdd("c", "c-1")];
    await queues.addBulk(jobs);
    // A crash between adding and forgetting adds the same again.
    await queues.addBulk(jobs);
    assert.deepEqual(await Promise.all(["a", "b", "c"].map((node) => queues.depth([node]))), [2, 1, 2]);
    const ids: string[] = [];
    for (const node of ["a", "b", "c"]) {
      const handle = async ({ id, data }: { readonly id: string; readonly data: Job }): Promise<void> => {
        assert.ok(id.startsWith(`${data.task!.taskUid}-`));
        ids.push(id);
      };
      cleanup.push(startJobWorker({ redisUrl: redis.url, node, logger: silentLogger, handle }));
    }
    await until("all are handled", async () => ids.length >= jobs.length && (await queues.depth()) === 0);
    assert.deepEqual(ids.toSorted(), jobs.map(({ id }) => id).toSorted());
  });

  test("of a bundle, the job that cannot be read, or is refused, is dropped alone", async () => {
    const lines: string[] = [];
    const logger: Logger = { ...silentLogger, error: (_fields, message) => void lines.push(message) };
    const seen: string[] = [];
    const jobs = [toAdd("a", "t1"), { ...toAdd("a", "t2"), data: { task: 17 } }, toAdd("a", "t3"), toAdd("a", "t4")];
    const raw = new Queue(queueName("a"), { connection: { url: redis.url } });
    await raw.add("bundle", "not a list", { jobId: "bad", removeOnFail: true });
    await raw.close();
    await queues.addBulk(jobs.map((job) => ({ ...job, bundles: true })));
    const handle = async ({ data }: { readonly data: Job }): Promise<void> => {
      if (data.task!.taskUid === "t3") throw new Error("refused");
      seen.push(data.task!.taskUid);
    };
    cleanup.push(startJobWorker({ redisUrl: redis.url, node: "a", logger, handle }));
    await until("the queue is empty", async () => lines.length === 3 && (await queues.depth()) === 0);
    assert.deepEqual(seen.toSorted(), ["t1", "t4"]);
    assert.match(
      lines.toSorted().join("\n"),
      /bundle of jobs cannot be read[^]*refused[^]*task\.run job cannot be read/,
    );
  });

  test("addBulk of an id that waits changes nothing, of one that is done rings again", async () => {
    await queues.addBulk([toAdd("a", "t1")]);
    await queues.addBulk([toAdd("a", "t1")]);
    assert.equal(await queues.depth(), 1);
    const seen: string[] = [];
    worker("a", seen);
    await until("taken once", async () => seen.length === 1 && (await queues.depth()) === 0);
    await queues.addBulk([toAdd("a", "t1")]);
    await until("taken again", () => seen.length === 2);
  });

  test("addBulk refuses ids that BullMQ would refuse, before adding anything", async () => {
    for (const id of ["12", "a:b", ""]) {
      await assert.rejects(queues.addBulk([toAdd("a", "t1"), { ...toAdd("a", "t2"), id }]), (error) =>
        hasCode(error, "INVALID_ARGUMENT"),
      );
    }
    assert.equal(await queues.depth(["a"]), 0);
  });

  test("addBulk fails with UNAVAILABLE while Redis is away, and works again after", async () => {
    await queues.addBulk([toAdd("a", "t1")]);
    await redis.stop();
    await assert.rejects(queues.addBulk([toAdd("a", "t2")]), (error) => hasCode(error, "UNAVAILABLE"));
    await redis.start();
    await until("added", async () => {
      await queues.addBulk([toAdd("a", "t3")]).catch(() => {});
      return (await queues.depth().catch(() => 0)) > 0;
    });
  });

  test("worker goes on after FLUSHALL with SCRIPT FLUSH", async () => {
    const seen: string[] = [];
    worker("a", seen);
    await queues.addBulk([toAdd("a", "t1")]);
    await until("first", () => seen.length === 1);
    const client = new Redis(redis.url);
    await client.flushall();
    await client.script("FLUSH");
    client.disconnect();
    await queues.addBulk([toAdd("a", "t2")]);
    await until("second", () => seen.length === 2);
  });

  test("worker goes on after Redis was killed and came back empty", async () => {
    const seen: string[] = [];
    worker("a", seen);
    await queues.addBulk([toAdd("a", "t1")]);
    await until("first", () => seen.length === 1);
    await redis.stop();
    await redis.start();
    await until("second", async () => {
      await queues.addBulk([toAdd("a", "t2")]).catch(() => {});
      return seen.includes("t2");
    });
  });

  test("worker that starts before Redis waits for it", async () => {
    await redis.stop();
    const seen: string[] = [];
    const started = worker("a", seen);
    assert.equal(started.state, "connecting");
    await redis.start();
    await until("taken", async () => {
      await queues.addBulk([toAdd("a", "t1")]).catch(() => {});
      return seen.includes("t1");
    });
  });

  test("worker drops a job that cannot be read, says so, and takes the next", async () => {
    const lines: string[] = [];
    const logger: Logger = { ...silentLogger, error: (_fields, message) => void lines.push(message) };
    const raw = new Queue(queueName("a"), { connection: { url: redis.url } });
    await raw.add("task.run", { task: 17 }, { jobId: "bad-1", removeOnFail: true });
    await raw.add("task.fly", {}, { jobId: "bad-2", removeOnFail: true });
    await raw.close();
    const seen: string[] = [];
    worker("a", seen, redis.url, logger);
    await queues.addBulk([toAdd("a", "t1")]);
    await until("good job taken", () => seen.length === 1);
    await until("bad ones dropped", async () => lines.length === 2 && (await queues.depth()) === 0);
    assert.match(lines.join("\n"), /task\.run job cannot be read/);
    assert.match(lines.join("\n"), /"task\.fly" is unknown/);
  });

  test("worker that died in the midst of a bundle gets all of it again", async () => {
    const first: string[] = [];
    const hung = startJobWorker({
      redisUrl: redis.url,
      node: "a",
      logger: silentLogger,
      lockMs: 300,
      graceMs: 10,
      handle: ({ id }) => (first.push(id) === 1 ? Promise.resolve() : new Promise(() => {})),
    });
    await queues.addBulk(["t1", "t2", "t3"].map((uid) => ({ ...toAdd("a", uid), bundles: true })));
    await until("taken by the first", () => first.length === 3);
    const seen: string[] = [];
    cleanup.push(
      startJobWorker({
        redisUrl: redis.url,
        node: "a",
        logger: silentLogger,
        lockMs: 300,
        handle: async ({ id }) => void seen.push(id),
      }),
    );
    await until("taken by the second", () => seen.length === 3);
    assert.deepEqual(seen, ["t1-3-1", "t2-3-1", "t3-3-1"]);
    await hung[Symbol.asyncDispose]();
  });

  test("worker whose handle died mid-job gets the job again", async () => {
    const hung = startJobWorker({
      redisUrl: redis.url,
      node: "a",
      logger: silentLogger,
      lockMs: 300,
      graceMs: 10,
      handle: () => new Promise(() => {}),
    });
    await queues.addBulk([toAdd("a", "t1")]);
    await until("taken by the first", async () => (await activeJobs(redis)) === 1);
    const seen: string[] = [];
    const second = startJobWorker({
      redisUrl: redis.url,
      node: "a",
      logger: silentLogger,
      lockMs: 300,
      handle: async ({ data }) => void seen.push(data.task!.taskUid),
    });
    cleanup.push(second);
    await until("taken by the second", () => seen.length === 1);
    await hung[Symbol.asyncDispose]();
  });

  test("worker with a node's ACL user works on its queue, and backs off on another's", async () => {
    const admin = new Redis(redis.url);
    const rights =
      "-@all +@read +@write +@scripting +@connection +@transaction -keys -@dangerous +info -script|flush -script|kill";
    await admin.call("ACL", "SETUSER", "node-a", "on", ">secret", "~bull:{node-a}:*", ...rights.split(" "));
    admin.disconnect();
    const url = `redis://node-a:secret@127.0.0.1:${redis.port}`;
    const seen: string[] = [];
    const own = worker("a", seen, url);
    const denied = worker("b", seen, url);
    await queues.addBulk([toAdd("a", "t1"), toAdd("b", "t2")]);
    await until("own job taken", () => seen.length === 1);
    await until("denied worker backs off", () => denied.state === "backing-off");
    const before = denied.errors;
    await delay(1_500);
    assert.ok(denied.errors - before < 20, `${denied.errors - before} errors in 1.5 s`);
    assert.deepEqual(seen, ["t1"]);
    assert.equal(own.state, "running");
  });

  test("every command keeps to one slot of a Redis Cluster", async () => {
    await using cluster = await startTestRedis({ cluster: true });
    const keyed = createJobQueues({ redisUrl: cluster.url, logger: silentLogger });
    cleanup.push(keyed);
    const seen: string[] = [];
    const [a, b] = [worker("a", seen, cluster.url), worker("b", seen, cluster.url)];
    await keyed.addBulk([toAdd("a", "t1"), toAdd("b", "t2"), toAdd("a", "t3")]);
    await until("all are taken", () => seen.length === 3);
    await until("depth is 0", async () => (await keyed.depth()) === 0);
    await keyed.drop("a");
    assert.deepEqual([a.errors, b.errors], [0, 0]);
  });

  test("drop removes all keys of a node's queue", async () => {
    await queues.addBulk([toAdd("a", "t1")]);
    await queues.drop("a");
    const client = new Redis(redis.url);
    assert.deepEqual(await client.keys("bull:{node-a}:*"), []);
    client.disconnect();
  });
});

test("decodeJob gives back what encodeJob was given, and skips fields it does not know", () => {
  const job = runJob("t1");
  const json = encodeJob(job) as Record<string, unknown>;
  assert.deepEqual(decodeJob("task.run", { ...json, fromTheFuture: 1 }).job, job);
  assert.throws(() => decodeJob("image.pull", json), /names no image/);
});

async function activeJobs(redis: TestRedis): Promise<number> {
  const client = new Redis(redis.url);
  const length = await client.llen("bull:{node-a}:active");
  client.disconnect();
  return length;
}
