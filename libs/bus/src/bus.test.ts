/** Requests and connections against a real nats-server. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { hasCode, silentLogger, StatusError } from "@berth/base";
import { LeaseReplySchema, LeaseRequestSchema, type LeaseRequest } from "@berth/proto";
import {
  agentInboxPrefix,
  agentPermissions,
  connectBus,
  controllerInboxPrefix,
  leaseEndpoint,
  progressSubject,
  type Bus,
  type BusState,
} from "./index.ts";
import { startTestNats, type TestNats } from "./testing/nats-server.ts";
import { until } from "./testing/until.ts";

const lease = create(LeaseRequestSchema, { node: "a", bootId: "b1" });

describe("bus on a real nats-server", () => {
  let nats: TestNats;
  let agent: Bus;
  let controller: Bus;
  beforeEach(async () => {
    nats = await startTestNats();
    agent = connectBus({ url: nats.url, name: "agent", inboxPrefix: agentInboxPrefix("a"), logger: silentLogger });
    controller = connectBus({
      url: nats.url,
      name: "controller",
      inboxPrefix: controllerInboxPrefix,
      logger: silentLogger,
    });
    await Promise.all([agent.connected(), controller.connected()]);
  });
  afterEach(async () => {
    await agent[Symbol.asyncDispose]();
    await controller[Symbol.asyncDispose]();
    await nats[Symbol.asyncDispose]();
  });

  test("request gets the reply and the handler knows the node from the subject", async () => {
    using _serving = controller.serve(leaseEndpoint, { queue: "controllers" }, async (message, { node }) =>
      create(LeaseReplySchema, { ttlMs: 15_000n, refused: `${message.bootId}@${node}` }),
    );
    await controller.connection().flush();
    const reply = await agent.request(leaseEndpoint, "a", lease);
    assert.deepEqual([reply.ttlMs, reply.refused], [15_000n, "b1@a"]);
  });

  test("request sends facts that were encoded before, as one message with the news, and serve reads it its own way", async () => {
    const facts = toBinary(LeaseRequestSchema, lease);
    const news = create(LeaseRequestSchema, { journalHeadSeq: 7n });
    const tell = async ({ bootId, journalHeadSeq }: LeaseRequest) =>
      create(LeaseReplySchema, { ttlMs: journalHeadSeq, refused: bootId });
    using whole = controller.serve(leaseEndpoint, {}, tell);
    await controller.connection().flush();
    const reply = await agent.request(leaseEndpoint, "a", news, { facts });
    whole[Symbol.dispose]();
    const read = (payload: Uint8Array, node: string) => ({ node, said: fromBinary(LeaseRequestSchema, payload) });
    using _serving = controller.serve(leaseEndpoint, { read }, async ({ node, said }) => {
      assert.equal(node, "a");
      return await tell(said);
    });
    await controller.connection().flush();
    assert.deepEqual(await agent.request(leaseEndpoint, "a", news, { facts }), reply);
    assert.deepEqual([reply.ttlMs, reply.refused], [7n, "b1"]);
    await assert.rejects(
      agent.request(leaseEndpoint, "a", news, { facts: facts.subarray(1) }),
      (error) => hasCode(error, "INVALID_ARGUMENT") && error.message === "lease request cannot be read",
    );
  });

  test("request throws the handler's StatusError with code, reason and message", async () => {
    using _serving = controller.serve(leaseEndpoint, {}, async () => {
      throw new StatusError("RESOURCE_EXHAUSTED", "too many nodes", { reason: "NODES_FULL" });
    });
    await controller.connection().flush();
    await assert.rejects(
      agent.request(leaseEndpoint, "a", lease),
      (error) =>
        hasCode(error, "RESOURCE_EXHAUSTED") && error.reason === "NODES_FULL" && error.message === "too many nodes",
    );
  });

  test("request without anybody who serves fails at once with UNAVAILABLE", async () => {
    await assert.rejects(
      agent.request(leaseEndpoint, "a", lease),
      (error) => hasCode(error, "UNAVAILABLE") && error.reason === "BUS_NO_RESPONDERS",
    );
  });

  test("request ends with its timeout or its signal", async () => {
    using _serving = controller.serve(leaseEndpoint, {}, () => new Promise(() => {}));
    await controller.connection().flush();
    await assert.rejects(agent.request(leaseEndpoint, "a", lease, { timeoutMs: 50 }), (error) =>
      hasCode(error, "DEADLINE_EXCEEDED"),
    );
    const abort = new AbortController();
    const answer = agent.request(leaseEndpoint, "a", lease, { signal: abort.signal });
    abort.abort();
    await assert.rejects(answer, (error) => hasCode(error, "CANCELLED"));
  });

  test("bus comes back with its subscriptions when the server was restarted, and refuses to speak meanwhile", async () => {
    const states: BusState[] = [];
    using _watching = agent.onState((state) => states.push(state));
    using _serving = controller.serve(leaseEndpoint, {}, async () => create(LeaseReplySchema, { ttlMs: 1n }));
    const heard: string[] = [];
    using _hearing = controller.subscribe(progressSubject("*"), (_payload, subject) => heard.push(subject));
    await nats.stop();
    await until("the agent notices", () => agent.state === "reconnecting");
    assert.throws(
      () => agent.publish(progressSubject("a"), new Uint8Array()),
      (error) => hasCode(error, "UNAVAILABLE"),
    );
    await nats.start();
    await Promise.all([agent.connected(), controller.connected()]);
    await controller.connection().flush();
    assert.equal((await agent.request(leaseEndpoint, "a", lease)).ttlMs, 1n);
    agent.publish(progressSubject("a"), new Uint8Array());
    await until("heard", () => heard.length === 1);
    assert.deepEqual([heard, states], [["progress.a"], ["reconnecting", "connected"]]);
  });

  test("bus comes back though the wall clock was set back an hour while the server was away", async (context) => {
    const trueNow = Date.now;
    context.mock.method(Date, "now", () => trueNow() + 3_600_000);
    await nats.stop();
    await until("both notice", () => agent.state === "reconnecting" && controller.state === "reconnecting");
    // At least one try by the clock that is ahead.
    await new Promise((resolve) => setTimeout(resolve, 500));
    context.mock.restoreAll();
    await nats.start();
    await Promise.all([
      agent.connected(AbortSignal.timeout(10_000)),
      controller.connected(AbortSignal.timeout(10_000)),
    ]);
  });

  test("bus of several servers goes to another one when its own is away, and back", async () => {
    await using other = await startTestNats();
    const logger = silentLogger;
    await using both = connectBus({ url: `${nats.url},${other.url}`, name: "both", inboxPrefix: "inbox.both", logger });
    await both.connected();
    for (const [away, there] of [
      [nats, other],
      [other, nats],
    ] as const) {
      await away.stop();
      await until("it is at the other one", () => both.state === "connected" && both.connection().getServer() === new URL(there.url).host); // prettier-ignore
      await away.start();
    }
  });

  test("connectBus returns at once and connects when the server comes", async () => {
    await nats.stop();
    const early = connectBus({ url: nats.url, name: "early", inboxPrefix: "inbox.early", logger: silentLogger });
    assert.equal(early.state, "connecting");
    const heard: string[] = [];
    early.subscribe(progressSubject("*"), (_payload, subject) => heard.push(subject));
    await nats.start();
    await early.connected();
    await early.connection().flush();
    early.publish(progressSubject("z"), new Uint8Array());
    await until("heard", () => heard.length === 1);
    await early[Symbol.asyncDispose]();
    assert.equal(early.state, "closed");
    await early[Symbol.asyncDispose]();
  });

  test("disposing a bus that never connected ends", async () => {
    await nats.stop();
    const never = connectBus({ url: nats.url, name: "never", inboxPrefix: "inbox.n", logger: silentLogger });
    await never[Symbol.asyncDispose]();
    await assert.rejects(never.connected(), (error) => hasCode(error, "CANCELLED"));
  });
});

test("agentPermissions let a node do its own work and nothing of another's", async () => {
  const user = (name: string, permissions: unknown): string =>
    `{ user: "${name}", password: "p", permissions: ${JSON.stringify(permissions)} }`;
  const users = [user("a", agentPermissions("a")), `{ user: "ctl", password: "p" }`].join(", ");
  await using nats = await startTestNats(`authorization { users: [ ${users} ] }`);
  const at = (name: string): string => nats.url.replace("//", `//${name}:p@`);
  await using controller = connectBus({
    url: at("ctl"),
    name: "controller",
    inboxPrefix: controllerInboxPrefix,
    logger: silentLogger,
  });
  await using agent = connectBus({
    url: at("a"),
    name: "agent",
    inboxPrefix: agentInboxPrefix("a"),
    logger: silentLogger,
  });
  await Promise.all([agent.connected(), controller.connected()]);
  const heard: string[] = [];
  using _hearing = controller.subscribe("progress.*", (_payload, subject) => heard.push(subject));
  using _serving = controller.serve(leaseEndpoint, {}, async () => create(LeaseReplySchema, { ttlMs: 9n }));
  await controller.connection().flush();
  assert.equal((await agent.request(leaseEndpoint, "a", lease)).ttlMs, 9n);
  await assert.rejects(agent.request(leaseEndpoint, "b", lease, { timeoutMs: 300 }));
  agent.publish(progressSubject("b"), new Uint8Array());
  agent.publish(progressSubject("a"), new Uint8Array());
  await until("own progress heard", () => heard.length > 0);
  assert.deepEqual(heard, ["progress.a"]);
});
