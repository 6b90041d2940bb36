/** What the agent does with assignments, over real Redis and NATS: superseding, D5's rules, bad work, campaigns, wiped brokers. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  ContainerSpecSchema,
  ImageAssignmentSchema,
  StreamExecSchema,
  StreamLogsSchema,
  type ContainerSpec,
} from "@berth/proto";
import { eventually, flushRedis } from "@berth/testkit";
import { hasCode } from "@berth/base";
import { startAgentLab, type AgentLab } from "./testing/agent-lab.ts";

describe("agent with assignments", () => {
  let lab: AgentLab;
  before(async () => {
    lab = await startAgentLab();
  });
  after(() => lab[Symbol.asyncDispose]());

  const shell = (script: string, extra: object = {}): ContainerSpec =>
    create(ContainerSpecSchema, {
      image: lab.image,
      command: ["/bin/sh", "-c", script],
      mounts: [{ type: "bind", source: lab.shared, target: "/shared" }],
      stop: { grace: { seconds: 0n, nanos: 0 } },
      network: { mode: "none" },
      ...extra,
    });
  const steps = (uid: string): string[] => lab.controller.stepNames(uid);
  const seen = (uid: string, step: string) =>
    eventually(`${uid} is ${step}, not ${steps(uid).join(" ")}`, () => steps(uid).includes(step), {
      timeoutMs: 20_000,
    });
  /** The agent has taken over the controller's newest set. */
  const applied = () =>
    eventually("the set is applied", () => {
      const lease = lab.controller.leases.at(-1);
      return (
        lease?.storeEpoch === lab.controller.storeEpoch && Number(lease.appliedRevision) === lab.controller.revision
      );
    });

  test("a newer attempt replaces the older one fully, and an older job changes nothing any more", async () => {
    const { controller } = lab;
    const script = (line: string): ContainerSpec =>
      shell(`echo ${line}; echo ${line} >> /shared/again; exec sleep 1000`);
    const first = await controller.run({ taskUid: "again", name: "again", container: script("one") });
    await seen("again", "started");
    const second = await controller.run({ taskUid: "again", name: "again", attempt: 2, container: script("two") });
    await seen("again", "started/2");
    const before = "accepted pulling creating started";
    assert.equal(steps("again").join(" "), `${before} accepted/2 stopping stopped removed creating/2 started/2`);
    await controller.ring("task.run", first, controller.revision + 1);
    await controller.ring("task.stop", first, controller.revision + 1);
    await controller.ring("task.run", second, controller.revision + 1);
    const open = { namespace: "shop", name: "again", command: ["/bin/cat", "/proc/1/cmdline"] };
    const { exitCode } = await controller.stream({ exec: create(StreamExecSchema, { taskUid: "again", open }) });
    assert.equal(exitCode, 0);
    const logs = (previous: boolean) =>
      controller.stream({ logs: create(StreamLogsSchema, { taskUid: "again", previous }) });
    assert.deepEqual([(await logs(false)).output, (await logs(true)).output], ["two\n", "one\n"]);
    await controller.stop(second);
    await seen("again", "removed/2");
    assert.deepEqual(lab.lines("again"), ["one", "two"]);
    assert.deepEqual(lab.leftovers(), []);
  });

  test("a set without jobs is enough to run and to stop", async () => {
    const { controller } = lab;
    const tasks = await Promise.all(
      ["s1", "s2", "s3"].map((taskUid) =>
        controller.run({ taskUid, name: taskUid, container: shell("exec sleep 1000") }, false),
      ),
    );
    await Promise.all(tasks.map(({ taskUid }) => seen(taskUid, "started")));
    await applied();
    for (const task of tasks) await controller.stop(task, false);
    await Promise.all(tasks.map(({ taskUid }) => seen(taskUid, "removed")));
    assert.deepEqual(lab.leftovers(), []);
  });

  test("a set that is older than a task's job does not stop the task", async () => {
    const { controller } = lab;
    await applied();
    const ahead = await controller.run({ taskUid: "ahead", name: "ahead", container: shell("exec sleep 1000") }, false);
    controller.tasks.delete("ahead");
    // The job is of a revision that no set has reached yet; a store that was put back is known by it, after a restart, too.
    const brought = controller.revision + 5;
    await controller.ring("task.run", ahead, brought);
    await seen("ahead", "started");
    const told = (): Promise<boolean> => {
      const asked = controller.leases.length;
      return eventually("a lease tells of that revision", () =>
        controller.leases.slice(asked).some(({ takenRevision }) => Number(takenRevision) === brought),
      );
    };
    await told();
    await lab.agent.kill();
    await lab.agent.ended(5_000);
    await lab.agent.start();
    await told();
    controller.revision += 2;
    await applied();
    assert.ok(!steps("ahead").includes("stopping"));
    controller.revision += 3;
    await seen("ahead", "removed");
  });

  test("a revision that goes backwards is refused, an unconfirmed new store stops nothing, a confirmed one does", async () => {
    const { controller } = lab;
    const task = await controller.run({ taskUid: "kept", name: "kept", container: shell("exec sleep 1000") });
    await seen("kept", "started");
    await applied();
    const reached = controller.revision;
    controller.tasks.delete("kept");
    controller.revision = 1;
    controller.storeEpoch = "store-2";
    controller.stopsConfirmed = false;
    await applied();
    const other = await controller.run({ taskUid: "kept-2", name: "kept-2", container: shell("exec sleep 1000") });
    await seen("kept-2", "started");
    assert.ok(!steps("kept").includes("stopping"));
    controller.revision = 0;
    await lab.agent.kill();
    await lab.agent.ended(5_000);
    controller.tasks.delete("kept-2");
    controller.stopsConfirmed = true;
    await lab.agent.start();
    const asked = controller.leases.length;
    await eventually("some leases later", () => controller.leases.length > asked + 3);
    assert.ok(!steps("kept-2").includes("stopping"), "a set of revision 0 came after one of revision 2");
    controller.revision = reached + 10;
    await Promise.all([seen("kept", "removed"), seen("kept-2", "removed")]);
    await applied();
    assert.deepEqual([task.taskUid, other.taskUid, lab.leftovers()], ["kept", "kept-2", []]);
  });

  test("work that cannot be done fails with its reason, and leaves nothing", async () => {
    const { controller } = lab;
    const bad: Record<string, { readonly container: ContainerSpec; readonly reason: string; readonly says: RegExp }> = {
      "no-image": {
        container: shell("true", { image: `${lab.registry.address}/test/none:1` }),
        reason: "ImagePullFailed",
        says: /none/,
      },
      "no-program": {
        container: create(ContainerSpecSchema, { image: lab.image, command: ["/no/such/program"] }),
        reason: "CreateFailed",
        says: /no\/such\/program/,
      },
      "no-handler": {
        container: shell("true", { runtimeHandler: "kata" }),
        reason: "InvalidSpec",
        says: /"kata"; it has runc/,
      },
      "no-user": { container: shell("true", { user: "nosuchuser" }), reason: "InvalidSpec", says: /nosuchuser/ },
    };
    for (const [taskUid, { container }] of Object.entries(bad))
      await controller.run({ taskUid, name: taskUid, container });
    for (const [taskUid, { reason, says }] of Object.entries(bad)) {
      await seen(taskUid, "failed");
      const failed = controller.stepsOf(taskUid).find(({ step }) => step === "failed");
      assert.equal(failed?.reason, reason, `${taskUid}: ${failed?.message}`);
      assert.match(failed.message, says);
      const task = controller.tasks.get(taskUid);
      if (task !== undefined) await controller.stop(task);
      await seen(taskUid, "removed");
    }
    assert.deepEqual(lab.leftovers(), []);
  });

  test("a stop while the image is being pulled calls the start off", async () => {
    const { controller } = lab;
    const container = shell("true", { image: "10.255.255.1:5000/slow/image:1" });
    const task = await controller.run({ taskUid: "pulling", name: "pulling", container });
    await seen("pulling", "pulling");
    await controller.stop(task);
    await seen("pulling", "removed");
    assert.ok(!steps("pulling").includes("failed"));
  });

  test("an exec in what does not run, and the log of what is not here, are refused with words", async () => {
    const { controller } = lab;
    const open = { namespace: "shop", name: "x", command: ["true"] };
    await assert.rejects(
      controller.stream({ exec: create(StreamExecSchema, { taskUid: "nowhere", open }) }),
      (error) => hasCode(error, "NOT_FOUND") && error.message === "task nowhere is not on this node",
    );
    const task = await controller.run({ taskUid: "done", name: "done", container: shell("true") });
    await seen("done", "exited");
    await assert.rejects(
      controller.stream({ exec: create(StreamExecSchema, { taskUid: "done", open }) }),
      (error) => hasCode(error, "FAILED_PRECONDITION") && /task done is not running: it is exited/.test(error.message),
    );
    await controller.stop(task);
    await seen("done", "removed");
  });

  test("a campaign's image is pulled, told of, and goes when the campaign does", async () => {
    const { controller } = lab;
    const imageSteps = (uid: string) =>
      [...controller.journal.values()].flat().flatMap(({ body }) => {
        return body.case === "image" && body.value.campaignUid === uid ? [body.value] : [];
      });
    const want = (campaignUid: string, image: string): void => {
      const init = { namespace: "fresh", image, campaignUid, generation: 1n, attempt: 1, desired: "Present" };
      controller.images.set(campaignUid, create(ImageAssignmentSchema, init));
      controller.revision += 1;
    };
    want("c-good", lab.image);
    want("c-bad", `${lab.registry.address}/test/none:1`);
    await eventually(
      "both have an outcome",
      () => imageSteps("c-good").length === 2 && imageSteps("c-bad").length === 2,
    );
    const [, present] = imageSteps("c-good");
    assert.deepEqual(
      [present?.step, present?.digest.slice(0, 7), (present?.sizeBytes ?? 0n) > 0n],
      ["present", "sha256:", true],
    );
    await eventually("progress", () =>
      controller.progress.some(({ namespace, image, progress }) => {
        return namespace === "fresh" && image === lab.image && progress?.phase === "done" && progress.layersDone === 1;
      }),
    );
    const [, failed] = imageSteps("c-bad");
    assert.deepEqual([failed?.step, failed?.reason], ["failed", "IMAGE_MISSING"]);
    controller.images.clear();
    controller.revision += 1;
    await eventually("removed", () => imageSteps("c-good").at(-1)?.step === "removed");
  });

  test("a flushed Redis and a wiped NATS lose nothing of the work in flight, and no task runs twice", async () => {
    const { controller } = lab;
    const uids = Array.from({ length: 6 }, (_, index) => `wipe-${index}`);
    for (const [index, taskUid] of uids.entries()) {
      await controller.run({
        taskUid,
        name: taskUid,
        container: shell(`echo run >> /shared/${taskUid}; exec sleep 1000`),
      });
      if (index === 2) await flushRedis(lab.redis);
      if (index === 4) await lab.nats.wipe();
    }
    await Promise.all(uids.map((uid) => seen(uid, "started")));
    for (const uid of uids)
      assert.deepEqual([lab.lines(uid), steps(uid).filter((s) => s === "started")], [["run"], ["started"]]);
    for (const uid of uids) await controller.stop(controller.tasks.get(uid)!, false);
    await Promise.all(uids.map((uid) => seen(uid, "removed")));
    assert.deepEqual(lab.leftovers(), []);
  });

  test("a second agent on the same data root is refused with the first one's pid", async () => {
    const refused = await lab.startSecond();
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, new RegExp(`in use by the agent with pid ${lab.agent.pid}`));
  });
});
