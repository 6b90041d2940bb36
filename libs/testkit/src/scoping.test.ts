/** Each node reaches its own queue and its own subjects, and nothing else (D8): the servers' users as libs/bus and libs/jobs
 * use them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { silentLogger } from "@berth/base";
import { agentInboxPrefix, agentPermissions } from "@berth/bus";
import { createJobQueues, encodeJob, startJobWorker } from "@berth/jobs";
import { create } from "@bufbuild/protobuf";
import { JobSchema } from "@berth/proto";
import { eventually, scratchDir, startNats, startRedis } from "./servers/index.ts";

test("startRedis lets a node's worker take its own jobs and none of another's", async () => {
  using scratch = scratchDir();
  await using server = await startRedis({ dir: scratch.dir, nodes: ["node-1", "node-2"] });
  await using queues = createJobQueues({ redisUrl: server.url, logger: silentLogger });
  const job = create(JobSchema, { image: { image: "demo/hello:1" } });
  await queues.addBulk(
    ["node-1", "node-2"].map((node) => ({
      node,
      name: "image.pull" as const,
      id: `pull-${node}`,
      data: encodeJob(job),
    })),
  );
  const taken: string[] = [];
  const worker = (node: string): ReturnType<typeof startJobWorker> =>
    startJobWorker({
      redisUrl: server.nodeUrl("node-1"),
      node,
      logger: silentLogger,
      handle: async ({ id }) => void taken.push(id),
    });
  await using _own = worker("node-1");
  await using foreign = worker("node-2");
  await eventually("the own job taken", () => taken.length > 0);
  await eventually("the other's queue denied", () => foreign.state === "backing-off");
  assert.deepEqual(taken, ["pull-node-1"]);
});

/** Connects as a user and collects what the server refuses. */
async function natsClient(url: string, inboxPrefix?: string): Promise<{ nc: NatsConnection; refused: string[] }> {
  const { username: user, password: pass, host } = new URL(url);
  const nc = await connect({ servers: host, user, pass, ...(inboxPrefix === undefined ? {} : { inboxPrefix }) });
  const refused: string[] = [];
  void (async () => {
    for await (const status of nc.status()) if (status.type === "error") refused.push(status.error.message);
  })();
  return { nc, refused };
}

test("startNats lets a node speak for itself and hear only what is addressed to it", async () => {
  using scratch = scratchDir();
  await using server = await startNats({
    dir: scratch.dir,
    nodes: ["node-1", "node-2"],
    permissions: agentPermissions,
  });
  const controller = await natsClient(server.url);
  const one = await natsClient(server.nodeUrl("node-1"), agentInboxPrefix("node-1"));
  const two = await natsClient(server.nodeUrl("node-2"), agentInboxPrefix("node-2"));
  try {
    const body = JSON.stringify({ name: "EV", subjects: ["ev.>"] });
    await controller.nc.request("$JS.API.STREAM.CREATE.EV", body);

    // The node's own: a journal entry with its ack, an answered request, a request it answers itself.
    const ack = await one.nc.request("ev.3.node-1", "entry");
    assert.equal(ack.json<{ stream: string }>().stream, "EV");
    controller.nc.subscribe("lease.*", { callback: (_error, message) => void message.respond("granted") });
    await controller.nc.flush();
    assert.equal((await one.nc.request("lease.node-1", "")).string(), "granted");
    one.nc.subscribe("node.node-1.exec", { callback: (_error, message) => void message.respond("done") });
    await one.nc.flush();
    assert.equal((await controller.nc.request("node.node-1.exec", "")).string(), "done");

    // Anything else is refused and heard by nobody.
    const leaked: string[] = [];
    controller.nc.subscribe(">", { callback: (_error, message) => void leaked.push(message.subject) });
    await controller.nc.flush();
    for (const subject of [
      "ev.3.node-1",
      "lease.node-1",
      "st.node-1.x.up",
      "_INBOX_node-1.x",
      "$JS.API.STREAM.DELETE.EV",
    ]) {
      two.nc.publish(subject, "forged");
    }
    for (const subject of ["node.node-1.>", "st.node-1.>", "_INBOX.>", "_INBOX_node-1.>", "ev.>", ">", "$JS.>"]) {
      two.nc.subscribe(subject, { callback: () => {} });
    }
    await two.nc.flush();
    assert.deepEqual(
      leaked.filter((subject) => !subject.startsWith("$SYS")),
      [],
    );
    await two.nc.flush();
    assert.equal(two.refused.length, 12, two.refused.join("\n"));
    assert.deepEqual(one.refused, []);
  } finally {
    await Promise.all([controller, one, two].map(({ nc }) => nc.close()));
  }
});
