/** Streams through a real nats-server: bytes, credit, endings, losses. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { hasCode, silentLogger, StatusError } from "@berth/base";
import { LogsResponseSchema, StreamExecSchema, StreamLogsSchema } from "@berth/proto";
import {
  agentInboxPrefix,
  connectBus,
  controllerInboxPrefix,
  openStream,
  serveStreams,
  type Bus,
  type FrameBus,
  type ServedStream,
  type StreamEvent,
  type StreamHandlers,
} from "../index.ts";
import { startTestNats, type TestNats } from "../testing/nats-server.ts";
import { until } from "../testing/until.ts";

const exec = { exec: create(StreamExecSchema, { taskUid: "t1" }) };
const logs = { logs: create(StreamLogsSchema, { taskUid: "t1" }) };
const fast = { pingIntervalMs: 50, idleTimeoutMs: 300 };
const MIB = 1024 * 1024;

/** Swallows the n-th frame that is published through it. */
function losing(bus: FrameBus, nth: number): FrameBus {
  let count = 0;
  return {
    publish: (subject, payload) => {
      count += 1;
      if (count !== nth) bus.publish(subject, payload);
    },
    publishAsking: (subject, payload, onNobody) => {
      count += 1;
      if (count !== nth) bus.publishAsking(subject, payload, onNobody);
    },
    subscribe: (subject, listener) => bus.subscribe(subject, listener),
    request: (endpoint, node, message, options) => bus.request(endpoint, node, message, options),
    serve: (endpoint, options, handler) => bus.serve(endpoint, options, handler),
  };
}

const missing = async (): Promise<never> => {
  throw new StatusError("NOT_FOUND", "no such task");
};
const none = { exec: missing, logs: missing, attach: missing, forward: missing, copyOut: missing, copyIn: missing };

async function collect(events: AsyncIterable<StreamEvent>): Promise<StreamEvent[]> {
  const all: StreamEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const text = (event: StreamEvent | undefined): string =>
  event !== undefined && "data" in event ? Buffer.from(event.data).toString() : "";

describe("streams on a real nats-server", () => {
  let nats: TestNats;
  let agent: Bus;
  let controller: Bus;
  const cleanup: AsyncDisposable[] = [];
  beforeEach(async () => {
    nats = await startTestNats();
    agent = connectBus({ url: nats.url, name: "agent", inboxPrefix: agentInboxPrefix("a"), logger: silentLogger });
    controller = connectBus({ url: nats.url, name: "ctl", inboxPrefix: controllerInboxPrefix, logger: silentLogger });
    await Promise.all([agent.connected(), controller.connected()]);
  });
  afterEach(async () => {
    for (const each of cleanup.splice(0)) await each[Symbol.asyncDispose]();
    await agent[Symbol.asyncDispose]();
    await controller[Symbol.asyncDispose]();
    await nats[Symbol.asyncDispose]();
  });
  const serve = async (handlers: Partial<StreamHandlers>, bus: FrameBus = agent, timings = {}): Promise<void> => {
    const all = { ...none, ...handlers };
    cleanup.push(serveStreams(bus, "a", all, { logger: silentLogger, ...timings }));
    await agent.connection().flush();
  };
  /** A handler that ends only when its stream does, and tells why. */
  const parked = (ends: unknown[]) => ({
    exec: async () => (stream: ServedStream) =>
      new Promise<number>((resolve) =>
        stream.signal.addEventListener("abort", () => {
          ends.push(stream.signal.reason);
          resolve(137);
        }),
      ),
  });

  test("exec carries input, output, half-close, resize and the exit code", async () => {
    const sizes: string[] = [];
    await serve({
      exec: async (open) => async (stream) => {
        stream.onResize((columns, rows) => sizes.push(`${columns}x${rows}`));
        stream.started();
        let input = "";
        for await (const chunk of stream.input) input += Buffer.from(chunk).toString();
        await stream.stdout(Buffer.from(`${open.taskUid}:${input}`));
        await stream.stderr(Buffer.from("warned"));
        return 7;
      },
    });
    await using stream = await openStream(controller, "a", exec);
    stream.resize(80, 24);
    await stream.write(Buffer.from("hello "));
    await stream.write(Buffer.from("there"));
    stream.closeInput();
    const events = await collect(stream.events);
    assert.deepEqual(
      events.map((event) => event.kind),
      ["started", "stdout", "stderr", "exit"],
    );
    assert.deepEqual([text(events[1]), text(events[2])], ["t1:hello there", "warned"]);
    assert.deepEqual([events[3], sizes], [{ kind: "exit", exitCode: 7 }, ["80x24"]]);
  });

  test("logs carry lines of any size and end after the last one", async () => {
    const long = "x".repeat(100_000);
    await serve({
      logs: async () => async (stream) => {
        for (const line of ["", "one", long]) {
          await stream.log(create(LogsResponseSchema, { stream: "stdout", data: Buffer.from(line) }));
        }
      },
    });
    await using stream = await openStream(controller, "a", logs);
    let all = "";
    for await (const event of stream.events) if (event.kind === "log") all += Buffer.from(event.entry.data).toString();
    assert.equal(all, `one${long}`);
  });

  test("openStream throws what the agent answers, and UNAVAILABLE without an agent", async () => {
    await serve({});
    await assert.rejects(
      openStream(controller, "a", exec),
      (error) => hasCode(error, "NOT_FOUND") && error.message === "no such task",
    );
    await assert.rejects(openStream(controller, "b", exec), (error) => hasCode(error, "UNAVAILABLE"));
  });

  test("a slow reader gets 20 MiB whole while the sender is never more than a window ahead", async () => {
    const total = 20 * MIB;
    const block = randomBytes(MIB);
    let sent = 0;
    let received = 0;
    let ahead = 0;
    await serve({
      exec: async () => async (stream) => {
        for (; sent < total; sent += block.length) await stream.stdout(block);
        return 0;
      },
    });
    await using stream = await openStream(controller, "a", exec, { windowBytes: 256 * 1024 });
    let frames = 0;
    for await (const event of stream.events) {
      if (event.kind !== "stdout") continue;
      const at = received % MIB;
      assert.ok(Buffer.from(event.data).equals(block.subarray(at, at + event.data.length)));
      received += event.data.length;
      ahead = Math.max(ahead, sent - received);
      frames += 1;
      if (frames % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(received, total);
    assert.ok(ahead <= 256 * 1024, `${ahead} bytes ahead`);
  });

  test("a stalled reader stalls its own stream only", async () => {
    let stalledSent = 0;
    await serve({
      exec: async (open) => async (stream) => {
        const block = Buffer.alloc(MIB);
        for (let index = 0; index < 4; index += 1) {
          for (let at = 0; at < MIB; at += 16_384) {
            await stream.stdout(block.subarray(at, at + 16_384));
            if (open.taskUid === "stalled") stalledSent += 16_384;
          }
        }
        return 0;
      },
    });
    const stalled = await openStream(controller, "a", { exec: create(StreamExecSchema, { taskUid: "stalled" }) });
    cleanup.push(stalled);
    await until("the stalled one has used its window", () => stalledSent === MIB);
    await using lively = await openStream(controller, "a", exec);
    let received = 0;
    for await (const event of lively.events) if (event.kind === "stdout") received += event.data.length;
    assert.equal(received, 4 * MIB);
    assert.equal(stalledSent, MIB);
  });

  test("a lost frame ends the stream with DATA_LOSS on both sides, upwards", async () => {
    let agentEnd: unknown;
    const handler = {
      exec: async () => async (stream: ServedStream) => {
        try {
          for (;;) await stream.stdout(Buffer.alloc(1_000));
        } catch (error) {
          agentEnd = error;
          throw error;
        }
      },
    };
    await serve(handler, losing(agent, 5));
    await using stream = await openStream(controller, "a", exec);
    const events: StreamEvent[] = [];
    await assert.rejects(
      async () => {
        for await (const event of stream.events) events.push(event);
      },
      (error) => hasCode(error, "DATA_LOSS"),
    );
    assert.equal(events.length, 4);
    await until("the agent knows", () => agentEnd !== undefined);
    assert.ok(hasCode(agentEnd, "DATA_LOSS"));
  });

  test("a lost frame ends the stream with DATA_LOSS on both sides, downwards", async () => {
    const ends: unknown[] = [];
    await serve(parked(ends));
    await using stream = await openStream(losing(controller, 2), "a", exec);
    await stream.write(Buffer.from("1"));
    await stream.write(Buffer.from("2"));
    await stream.write(Buffer.from("3"));
    await assert.rejects(collect(stream.events), (error) => hasCode(error, "DATA_LOSS"));
    assert.ok(hasCode(ends[0], "DATA_LOSS"));
  });

  test("a cancelled stream ends its process", async () => {
    const ends: unknown[] = [];
    await serve(parked(ends));
    const abort = new AbortController();
    await using stream = await openStream(controller, "a", exec, { signal: abort.signal });
    const reading = collect(stream.events);
    abort.abort();
    await assert.rejects(reading, (error) => hasCode(error, "CANCELLED"));
    await until("the agent knows", () => ends.length === 1);
    assert.ok(hasCode(ends[0], "CANCELLED"));
  });

  test("a stream whose controller died ends by itself", async () => {
    const ends: unknown[] = [];
    await serve(parked(ends), agent, fast);
    const doomed = connectBus({ url: nats.url, name: "doomed", inboxPrefix: "inbox.doomed", logger: silentLogger });
    await doomed.connected();
    // Its pings and its farewell are swallowed, as if it had been killed.
    const dead = losing(doomed, 0);
    await openStream({ ...dead, publish: () => {}, publishAsking: () => {} }, "a", exec, fast);
    await until("the agent gives up", () => ends.length === 1);
    assert.ok(hasCode(ends[0], "UNAVAILABLE"));
    await doomed[Symbol.asyncDispose]();
  });

  test("a stream whose agent died throws UNAVAILABLE, a quiet one lives on", async () => {
    const ends: unknown[] = [];
    const mute = losing(agent, 0);
    await serve(parked(ends), { ...mute, publish: () => {} }, fast);
    const dead = await openStream(controller, "a", exec, fast);
    await assert.rejects(collect(dead.events), (error) => hasCode(error, "UNAVAILABLE"));
    await cleanup.pop()?.[Symbol.asyncDispose]();

    await serve(parked(ends), agent, fast);
    await using quiet = await openStream(controller, "a", exec, fast);
    const reading = collect(quiet.events);
    const first = await Promise.race([reading.catch(() => "ended"), new Promise((r) => setTimeout(r, 700, "alive"))]);
    assert.equal(first, "alive");
    await quiet[Symbol.asyncDispose]();
    await assert.rejects(reading, (error) => hasCode(error, "CANCELLED"));
  });

  test("a stream whose agent is no longer there ends with its next ping, long before silence would tell", async () => {
    const ends: unknown[] = [];
    const killed = connectBus({
      url: nats.url,
      name: "killed",
      inboxPrefix: agentInboxPrefix("k"),
      logger: silentLogger,
    });
    await killed.connected();
    const serving = serveStreams(killed, "k", { ...none, ...parked(ends) }, { logger: silentLogger });
    await killed.connection().flush();
    const stream = await openStream(controller, "k", exec, { pingIntervalMs: 50, idleTimeoutMs: 60_000 });
    const reading = collect(stream.events);
    // As a kill does: the connection is gone without a word.
    await killed.connection().close();
    await assert.rejects(reading, (error) => hasCode(error, "UNAVAILABLE") && /is gone/.test(error.message));
    await serving[Symbol.asyncDispose]();
    await killed[Symbol.asyncDispose]();
  });

  test("an agent that sends more than the window is cut off", async () => {
    let agentEnd: unknown;
    await serve({
      exec: async () => async (stream) => {
        await stream.stdout(Buffer.alloc(100_000));
        stream.signal.addEventListener("abort", () => (agentEnd = stream.signal.reason));
        return await new Promise<number>(() => {});
      },
    });
    const cheated: FrameBus = {
      ...losing(controller, 0),
      request: async (endpoint, node, message, options) => {
        Object.assign(message, { windowBytes: 1_000_000 });
        return await controller.request(endpoint, node, message, options);
      },
    };
    await using stream = await openStream(cheated, "a", exec, { windowBytes: 50_000 });
    await until("the agent was told", () => agentEnd !== undefined);
    await assert.rejects(collect(stream.events), (error) => hasCode(error, "RESOURCE_EXHAUSTED"));
    cleanup.length = 0;
  });

  test("serveStreams refuses more streams than it may hold", async () => {
    const ends: unknown[] = [];
    await serve(parked(ends), agent, { maxStreams: 1 });
    await using _first = await openStream(controller, "a", exec);
    await assert.rejects(openStream(controller, "a", exec), (error) => hasCode(error, "RESOURCE_EXHAUSTED"));
  });
});
