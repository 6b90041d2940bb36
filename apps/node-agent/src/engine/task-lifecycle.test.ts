/** The lifecycle over steps that a test owns: order, undoing, calling off, retrying, restarting. */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import { hang, openEngineLab, type EngineLab } from "./testing/engine-lab.ts";

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!holds()) {
    if (Date.now() > end) assert.fail(`not within 10 s: ${what}`);
    await delay(5);
  }
}

const reaches = (lab: EngineLab, uid: string, step: string): Promise<void> =>
  until(`${uid} is ${step}, not ${lab.steps(uid).join(" ")}`, () => lab.steps(uid).includes(step));

const UP = ["+image", "+snapshot", "+bundle", "+rootfs", "+network", "+spec", "+create", "+start"];
const DOWN = UP.toReversed().map((step) => step.replace("+", "-"));

test("TaskLifecycle runs the steps in order, records the exit, and cleans in reverse", async () => {
  await using lab = await openEngineLab();
  assert.equal(await lab.engine.run(lab.intent({ taskUid: "t" })), "taken");
  await reaches(lab, "t", "started");
  assert.deepEqual(lab.trace, UP);
  assert.deepEqual(
    lab.engine.running().map(({ container }) => container.id),
    ["t"],
  );
  lab.runtime.end({ namespace: "shop", id: "t" }, 7);
  await reaches(lab, "t", "exited");
  await lab.lifecycle.settled();
  assert.deepEqual(lab.trace, [...UP, ...DOWN]);
  assert.deepEqual(lab.steps("t"), ["accepted", "creating", "started", "exited"]);
  assert.equal(lab.rows.hasContainers("shop"), false);
  assert.equal(await lab.engine.run(lab.intent({ taskUid: "t" })), "known");
  assert.equal(lab.runtime.starts, 1);
});

test("TaskLifecycle undoes everything when a step fails, and says which", async () => {
  for (const step of UP) {
    await using lab = await openEngineLab();
    lab.misbehave.set(step, async () => {
      throw new StatusError("UNAVAILABLE", `${step} broke`);
    });
    await lab.engine.run(lab.intent({ taskUid: "t" }));
    await reaches(lab, "t", "failed");
    await lab.lifecycle.settled();
    const begun = UP.slice(0, UP.indexOf(step) + 1);
    assert.deepEqual(lab.trace, [...begun, ...DOWN]);
    assert.match(lab.messages("t").at(-1) ?? "", new RegExp(`Failed: \\${step} broke`));
    assert.equal(lab.runtime.containers.size, 0);
  }
});

test("TaskLifecycle takes up a cleaning that failed until it succeeds", async () => {
  await using lab = await openEngineLab();
  let failures = 2;
  lab.misbehave.set("-network", async () => {
    failures -= 1;
    if (failures >= 0) throw new StatusError("FAILED_PRECONDITION", "plugin crashed");
  });
  await lab.engine.run(lab.intent({ taskUid: "t" }));
  await reaches(lab, "t", "started");
  await lab.engine.stop(lab.intent({ taskUid: "t" }));
  await reaches(lab, "t", "removed");
  assert.equal(lab.trace.filter((step) => step === "-network").length, 3);
  assert.deepEqual(lab.steps("t").slice(-3), ["stopping", "stopped", "removed"]);
});

test("TaskLifecycle calls a start off when the task is stopped meanwhile", async () => {
  await using lab = await openEngineLab();
  lab.misbehave.set("+image", hang);
  await lab.engine.run(lab.intent({ taskUid: "t" }));
  await until("the pull hangs", () => lab.trace.includes("+image"));
  await lab.engine.stop(lab.intent({ taskUid: "t" }));
  await reaches(lab, "t", "removed");
  assert.deepEqual(lab.steps("t"), ["accepted", "removed"]);
  assert.deepEqual(lab.trace, ["+image", ...DOWN]);
});

test("TaskLifecycle ends the older attempt fully before it begins the newer one, also in the middle of a start", async () => {
  await using lab = await openEngineLab();
  lab.misbehave.set("+network", async (context) => {
    if (context?.container.attempt === 1) await hang(context);
  });
  await lab.engine.run(lab.intent({ taskUid: "t" }));
  await until("the network hangs", () => lab.trace.includes("+network"));
  await lab.engine.run(lab.intent({ taskUid: "t", attempt: 2 }));
  await reaches(lab, "t", "started/2");
  assert.deepEqual(lab.steps("t"), ["accepted", "creating", "accepted/2", "removed", "creating/2", "started/2"]);
  assert.deepEqual(lab.trace, [...UP.slice(0, 5), ...DOWN, ...UP]);
  assert.equal(await lab.engine.run(lab.intent({ taskUid: "t" })), "stale");
  assert.equal(await lab.engine.stop(lab.intent({ taskUid: "t" })), "stale");
});

test("TaskLifecycle sends the stop signal, then SIGKILL after the grace", async () => {
  await using lab = await openEngineLab();
  lab.runtime.obeys.delete("SIGQUIT");
  const { plan, ...rest } = lab.intent({ taskUid: "t" });
  assert.ok(!(plan instanceof StatusError));
  await lab.engine.run({ ...rest, plan: { ...plan, stopSignal: "SIGQUIT", stopGraceMs: 30 } });
  await reaches(lab, "t", "started");
  const container = lab.runtime.containers.get("shop/t");
  await lab.engine.stop(rest);
  await reaches(lab, "t", "removed");
  assert.deepEqual(container?.signals, ["SIGQUIT", "SIGKILL"]);
});

test("Engine.stop of what was never heard of leaves a tombstone, and a late job does not run it", async () => {
  await using lab = await openEngineLab();
  assert.equal(await lab.engine.stop(lab.intent({ taskUid: "t" })), "taken");
  await reaches(lab, "t", "removed");
  assert.equal(await lab.engine.run(lab.intent({ taskUid: "t" })), "known");
  assert.equal(await lab.engine.run(lab.intent({ taskUid: "t", attempt: 2 })), "taken");
  await reaches(lab, "t", "started/2");
});

test("Engine.run of what cannot be run is accepted and failed at once", async () => {
  await using lab = await openEngineLab();
  const problem = new StatusError("INVALID_ARGUMENT", "spec.user: is odd");
  await lab.engine.run(lab.intent({ taskUid: "t", plan: problem }));
  assert.deepEqual(lab.messages("t"), [": ", "InvalidSpec: spec.user: is odd"]);
  await lab.lifecycle.settled();
  assert.deepEqual(lab.trace, []);
});

test("TaskLifecycle takes up a running container after a restart, and reports the exit that happened meanwhile", async () => {
  await using lab = await openEngineLab();
  await lab.engine.run(lab.intent({ taskUid: "t" }));
  await reaches(lab, "t", "started");
  await lab.restart();
  assert.deepEqual(lab.steps("t"), ["accepted", "creating", "started"]);
  lab.runtime.end({ namespace: "shop", id: "t" }, 3);
  await reaches(lab, "t", "exited");
  assert.equal(lab.runtime.starts, 1);
});

test("TaskLifecycle reports an unknown exit when the container is gone after a restart", async () => {
  await using lab = await openEngineLab();
  await lab.engine.run(lab.intent({ taskUid: "t" }));
  await reaches(lab, "t", "started");
  await lab.restart();
  lab.runtime.containers.clear();
  await lab.restart({ bootId: "boot-2" });
  await reaches(lab, "t", "exited");
  assert.match(lab.messages("t").at(-1) ?? "", /^ExitUnknown: nobody knows how it ended: its container is gone$/);
});

test("TaskLifecycle fails what was being started in another boot", async () => {
  await using lab = await openEngineLab();
  lab.misbehave.set("+create", hang);
  await lab.engine.run(lab.intent({ taskUid: "half" }));
  await until("half is being created", () => lab.trace.includes("+create"));
  lab.misbehave.clear();
  await lab.restart({ bootId: "boot-2" });
  await reaches(lab, "half", "failed");
  assert.match(lab.messages("half").at(-1) ?? "", /^HostRebooted: /);
  assert.equal(lab.runtime.starts, 0);
});

test("TaskLifecycle leaves a start under way to the next agent when it is closed", async () => {
  await using lab = await openEngineLab();
  lab.misbehave.set("+network", hang);
  await lab.engine.run(lab.intent({ taskUid: "t" }));
  await until("the network hangs", () => lab.trace.includes("+network"));
  lab.misbehave.clear();
  await lab.restart();
  await reaches(lab, "t", "started");
  assert.equal(lab.steps("t").filter((step) => step === "started").length, 1);
  assert.ok(!lab.trace.some((step) => step.startsWith("-")), "nothing was undone");
});
