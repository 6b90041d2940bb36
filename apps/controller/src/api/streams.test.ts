/** Logs, exec and progress through a real NATS, with the agent's end played by the test. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { silentLogger, StatusError, uuidv7 } from "@berth/base";
import { agentInboxPrefix, connectBus, progressSubject, serveStreams, type Bus, type StreamHandlers } from "@berth/bus";
import {
  CampaignService,
  CampaignStatusSchema,
  ExecRequestSchema,
  LogsResponseSchema,
  NamespaceService,
  ProgressReportSchema,
  TaskService,
  type AttachRequestSchema,
  type CampaignTarget,
  type CopyInRequest,
  type CopyInRequestSchema,
  type CopyInResponse,
  type ExecRequest,
  type PortForwardRequestSchema,
} from "@berth/proto";
import {
  insertTargets,
  insertTasks,
  lockCampaign,
  lockTargets,
  targetsOf,
  updateCampaign,
  updateTargets,
  updateTasks,
} from "@berth/store";
import { addNode, newTask, startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";

let servers: TestServers;
let api: TestApi;
let agent: Bus;
let handlers: StreamHandlers;
let serving: AsyncDisposable;

before(async () => {
  servers = await startTestServers();
  api = await servers.api();
  agent = connectBus({
    url: servers.nats.url,
    name: "agent",
    inboxPrefix: agentInboxPrefix("node-a"),
    logger: silentLogger,
  });
  await agent.connected();
  serving = serveStreams(
    agent,
    "node-a",
    {
      exec: (open) => handlers.exec(open),
      logs: (open) => handlers.logs(open),
      attach: (open) => handlers.attach(open),
      forward: (open) => handlers.forward(open),
      copyOut: (open) => handlers.copyOut(open),
      copyIn: (open) => handlers.copyIn(open),
    },
    { logger: silentLogger },
  );
  await api.client(NamespaceService).applyNamespace({ namespace: { metadata: { name: "demo" } } });
  await addNode(api.store, "node-a");
  await api.store.transaction(async (tx) => {
    const rows = await insertTasks(
      tx,
      ["web-0", "web-1", "web-2", "web-3"].map((name, slot) => ({ ...newTask("demo", name), slot })),
    );
    await updateTasks(tx, [
      { before: rows[0]!, patch: { node: "node-a", phase: "Running" } },
      { before: rows[1]!, patch: { node: "node-a", phase: "Succeeded" } },
      { before: rows[2]!, patch: { node: "silent", phase: "Running" } },
    ]);
  });
});
beforeEach(() => {
  const none = () => Promise.reject(new StatusError("UNIMPLEMENTED", "not in this test"));
  handlers = { exec: none, logs: none, attach: none, forward: none, copyOut: none, copyIn: none };
});
after(async () => {
  await serving[Symbol.asyncDispose]();
  await agent[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
  await servers[Symbol.asyncDispose]();
});

async function* inputOf(...messages: ExecRequest["message"][]): AsyncGenerator<ExecRequest> {
  for (const message of messages) yield create(ExecRequestSchema, { message });
}

const open = (name: string): ExecRequest["message"] => ({
  case: "open",
  value: create(ExecRequestSchema, {
    message: { case: "open", value: { namespace: "demo", name, command: ["cat"], stdin: true } },
  }).message.value as Extract<ExecRequest["message"], { case: "open" }>["value"],
});

test("logs come from the task's node, over both transports", async () => {
  const asked: unknown[] = [];
  handlers.logs = async ({ tail, follow, previous }) => {
    asked.push({ tail, follow, previous });
    return async (stream) => {
      for (const line of ["one\n", "two\n"]) {
        await stream.log(
          create(LogsResponseSchema, { stream: "stdout", data: Buffer.from(line), time: timestampFromMs(0) }),
        );
      }
    };
  };
  const lines: string[] = [];
  for await (const { data } of api.client(TaskService).logs({ namespace: "demo", name: "web-0", tail: 5 })) {
    lines.push(Buffer.from(data).toString());
  }
  assert.deepEqual(lines, ["one\n", "two\n"]);
  const response = await fetch(`${api.url}/v1/namespaces/demo/tasks/web-0/logs?follow=true&tail=-1`, {
    headers: { authorization: `Bearer ${api.token}` },
  });
  assert.equal((await response.text()).trim().split("\n").length, 2);
  assert.deepEqual(asked, [
    { tail: 5, follow: false, previous: false },
    { tail: undefined, follow: true, previous: false },
  ]);
});

test("logs pass the node's refusal on, and say what keeps them from coming", async () => {
  const logs = async (name: string): Promise<void> => {
    for await (const _ of api.client(TaskService).logs({ namespace: "demo", name })) assert.fail("a line");
  };
  handlers.logs = () => Promise.reject(new StatusError("NOT_FOUND", "no log of it is kept", { reason: "LOG_GONE" }));
  await assert.rejects(logs("web-0"), { code: "NOT_FOUND", message: /no log of it is kept/ });
  await assert.rejects(logs("web-2"), {
    code: "UNAVAILABLE",
    reason: "NODE_UNREACHABLE",
    message: /node "silent" of task "web-2"/,
  });
  await assert.rejects(logs("web-3"), { code: "FAILED_PRECONDITION", reason: "TASK_NOT_PLACED" });
  await assert.rejects(logs("none"), { code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
});

test("exec carries both directions, the exit code and resizes", async () => {
  const sizes: string[] = [];
  handlers.exec = async () => async (stream) => {
    stream.onResize((columns, rows) => sizes.push(`${columns}x${rows}`));
    stream.started();
    for await (const chunk of stream.input) await stream.stdout(chunk);
    await stream.stderr(Buffer.from("done"));
    return 3;
  };
  const input = inputOf(
    open("web-0"),
    { case: "stdin", value: Buffer.from("hello") },
    { case: "resize", value: { $typeName: "berth.v1.TerminalSize", columns: 80, rows: 24 } },
    { case: "stdinClosed", value: true },
  );
  const got: string[] = [];
  for await (const { message } of api.client(TaskService).exec(input)) {
    got.push(
      message.value instanceof Uint8Array
        ? `${message.case} ${Buffer.from(message.value).toString()}`
        : `${message.case} ${message.value}`,
    );
  }
  assert.deepEqual(got, ["started true", "stdout hello", "stderr done", "exitCode 3"]);
  assert.deepEqual(sizes, ["80x24"]);
});

test("exec ends the process when the caller goes away", async () => {
  const ended = Promise.withResolvers<void>();
  handlers.exec = async () => async (stream) => {
    stream.started();
    await new Promise<void>((resolve) => stream.signal.addEventListener("abort", () => resolve(), { once: true }));
    ended.resolve();
    return 137;
  };
  for await (const { message } of api.client(TaskService).exec(inputOf(open("web-0")))) {
    assert.equal(message.case, "started");
    break;
  }
  await ended.promise;
});

test("exec needs an opening message and a running task", async () => {
  const exec = async (...messages: ExecRequest["message"][]): Promise<void> => {
    for await (const _ of api.client(TaskService).exec(inputOf(...messages))) assert.fail("an answer");
  };
  await assert.rejects(exec({ case: "stdinClosed", value: true }), {
    code: "INVALID_ARGUMENT",
    message: /open: must be the first/,
  });
  await assert.rejects(exec(open("web-1")), {
    reason: "TASK_NOT_RUNNING",
    message: /is Succeeded; exec needs a running one/,
  });
  await assert.rejects(exec(open("Bad_Name")), { code: "INVALID_ARGUMENT" });
});

test("attach and port-forward carry both directions, and each half of a connection closes on its own", async () => {
  handlers.attach =
    async ({ stdin, size }) =>
    async (stream) => {
      stream.started();
      await stream.stdout(Buffer.from(`${stdin} ${size?.columns}`));
      for await (const chunk of stream.input) await stream.stderr(chunk);
      return 5;
    };
  const said: string[] = [];
  async function* typing(): AsyncGenerator<MessageInitShape<typeof AttachRequestSchema>> {
    const value = { namespace: "demo", name: "web-0", stdin: true, size: { columns: 90, rows: 20 } };
    yield { message: { case: "open", value } };
    yield { message: { case: "stdin", value: Buffer.from("typed") } };
  }
  for await (const { message } of api.client(TaskService).attach(typing())) {
    said.push(message.value instanceof Uint8Array ? Buffer.from(message.value).toString() : `${message.value}`);
  }
  assert.deepEqual(said, ["true", "true 90", "typed", "5"]);

  const closed = Promise.withResolvers<void>();
  handlers.forward =
    async ({ port }) =>
    async (stream) => {
      stream.started();
      await stream.stdout(Buffer.from(`port ${port}`));
      stream.closeOutput();
      let bytes = 0;
      for await (const chunk of stream.input) bytes += chunk.length;
      assert.equal(bytes, 100_000, "input goes on when output is closed");
      closed.resolve();
    };
  const heard: string[] = [];
  const half = Promise.withResolvers<void>();
  async function* sending(): AsyncGenerator<MessageInitShape<typeof PortForwardRequestSchema>> {
    yield { message: { case: "open", value: { namespace: "demo", name: "web-0", port: 80 } } };
    await half.promise;
    yield { message: { case: "data", value: Buffer.alloc(100_000) } };
    yield { message: { case: "closed", value: true } };
  }
  for await (const { message } of api.client(TaskService).portForward(sending())) {
    heard.push(`${message.case}`);
    if (message.case === "closed") half.resolve();
  }
  await closed.promise;
  assert.deepEqual(heard, ["connected", "data", "closed"]);
});

test("copies pass archives on, and one that is cut short is none", async () => {
  handlers.copyOut =
    async ({ path }) =>
    async (stream) => {
      await stream.stdout(Buffer.from(`archive of ${path}`));
      return { files: 1, bytes: 2 };
    };
  const response = await fetch(`${api.url}/v1/namespaces/demo/tasks/web-0/files?path=/etc`, {
    headers: { authorization: `Bearer ${api.token}` },
  });
  const { data } = JSON.parse((await response.text()).trim()) as { data: string };
  assert.equal(Buffer.from(data, "base64").toString(), "archive of /etc");

  const ends: string[] = [];
  const broken = Promise.withResolvers<void>();
  handlers.copyIn = async () => async (stream) => {
    let bytes = 0;
    try {
      for await (const chunk of stream.input) bytes += chunk.length;
      ends.push("whole");
    } catch (error) {
      ends.push(StatusError.from(error).code);
      broken.resolve();
      throw error;
    }
    return { files: 3, bytes };
  };
  const send = async (...rest: CopyInRequest["message"][]): Promise<CopyInResponse | undefined> => {
    async function* requests(): AsyncGenerator<MessageInitShape<typeof CopyInRequestSchema>> {
      yield { message: { case: "open", value: { namespace: "demo", name: "web-0", path: "/tmp" } } };
      for (const message of rest) yield { message };
    }
    for await (const reply of api.client(TaskService).copyIn(requests())) return reply;
    return undefined;
  };
  const piece = { case: "data", value: Buffer.alloc(70_000) } as const;
  const done = await send(piece, piece, { case: "finished", value: true });
  assert.deepEqual([done?.files, done?.bytes], [3n, 140_000n]);
  await assert.rejects(send(piece), { code: "ABORTED", message: /cut short/ });
  await broken.promise;
  assert.deepEqual(ends, ["whole", "ABORTED"]);
});

test("watchProgress shows the bytes that nodes report, and ends with the campaign", async () => {
  const client = api.client(CampaignService);
  const image = "registry.example/a:1";
  await client.applyCampaign({
    campaign: { metadata: { name: "pull", namespace: "demo" }, spec: { images: [image] } },
  });
  const uid = (await client.getCampaign({ namespace: "demo", name: "pull" })).metadata!.uid;
  const place = { campaignUid: uid, generation: 1, namespace: "demo", node: "node-a", image, snapshotter: "" };
  await api.store.transaction((tx) => insertTargets(tx, [{ ...place, id: uuidv7() }]));
  const move = (phase: string, campaignPhase: string): Promise<void> =>
    api.store.transaction(async (tx) => {
      const row = (await lockCampaign(tx, "demo", "pull"))!;
      const [target] = await lockTargets(tx, targetsOf(uid));
      await updateTargets(tx, [{ before: target!, patch: { phase } }]);
      await updateCampaign(tx, row, {
        phase: campaignPhase,
        observedGeneration: 1,
        status: create(CampaignStatusSchema, { phase: campaignPhase, targets: 1 }),
      });
    });
  const report = (offsetBytes: number): void =>
    agent.publish(
      progressSubject("node-a"),
      toBinary(
        ProgressReportSchema,
        create(ProgressReportSchema, {
          node: "someone-else",
          images: [
            {
              namespace: "demo",
              image,
              progress: { phase: "pulling", offsetBytes: BigInt(offsetBytes), totalBytes: 100n },
            },
          ],
        }),
      ),
    );
  const seen: CampaignTarget[] = [];
  for await (const { targets } of client.watchProgress({ namespace: "demo", name: "pull" })) {
    seen.push(...targets);
    const last = seen.at(-1)!;
    if (last.phase === "Waiting") await move("Pulling", "Running");
    else if (last.phase === "Pulling" && last.progress === undefined) report(40);
    else if (last.phase === "Pulling" && last.progress?.offsetBytes === 40n) report(90);
    else if (last.phase === "Pulling" && last.progress?.offsetBytes === 90n) await move("Succeeded", "Succeeded");
  }
  assert.deepEqual(
    seen.map(({ phase, progress }) => `${phase} ${progress?.offsetBytes ?? "-"}`),
    ["Waiting -", "Pulling -", "Pulling 40", "Pulling 90", "Succeeded -"],
  );
});
