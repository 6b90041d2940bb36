/**
 * A real agent that is cut off, asked on its own host: it knows by itself that its lease has passed, since when, what goes on, and
 * by when (T) what is fenced has ended (flow C, D6).
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ContainerSpecSchema } from "@berth/proto";
import { eventually } from "@berth/testkit";
import { startAgentLab, type AgentLab } from "../testing/agent-lab.ts";
import { callBerthd } from "../testing/berthd.ts";

describe("cut off", () => {
  let lab: AgentLab;
  before(async () => {
    lab = await startAgentLab();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Ignores its signal, so that it runs to the end of its grace. */
  const run = (name: string, fence: boolean) =>
    lab.controller.run({
      taskUid: name,
      name,
      fence,
      container: create(ContainerSpecSchema, {
        image: lab.image,
        command: ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
        stop: { grace: { seconds: 4n } },
      }),
    });
  const berthd = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await callBerthd(args, { BERTH_STATE: lab.agent.state });
    assert.equal(code, 0, stderr);
    return stdout + stderr;
  };
  type Told = {
    readonly name: string;
    readonly state: string;
    readonly certainty: string;
    readonly possiblyUntil?: string;
  };
  const tasks = async (): Promise<ReadonlyMap<string, Told>> => {
    const all = JSON.parse(await berthd("tasks", "-A", "-o", "json")) as Told[];
    return new Map(all.map((task) => [task.name, task]));
  };
  const http = async (path: string): Promise<string> =>
    await (await fetch(`http://${lab.agent.host.address}:1338${path}`)).text();
  const metric = async (name: string): Promise<number> => {
    const text = await http("/metrics");
    return Number(new RegExp(`^${name} (.+)$`, "m").exec(text)?.[1]);
  };

  test("an agent that is cut off tells since when, what goes on, and T for what is fenced; also one that was restarted since", async () => {
    await run("fenced", true);
    await run("free", false);
    for (const uid of ["fenced", "free"]) {
      await eventually(`${uid} runs`, () => lab.controller.stepNames(uid).includes("started"), { timeoutMs: 30_000 });
    }
    assert.match(await berthd("status"), /^Controller: +answers; the lease lasts until 20/m);
    assert.equal((await tasks()).get("fenced")!.certainty, "observed");
    assert.equal(await metric("berth_cut_off_since_timestamp_seconds"), 0);
    assert.equal(await metric("berth_fenced_tasks"), 1);

    lab.controller.answering = false;
    const cut = await eventually("it knows", async () => /^Controller: .*cut off.*$/m.test(await berthd("status")) && (await berthd("status"))); // prettier-ignore
    assert.match(cut, /^Controller: +cut off since 20\S+Z, \S+ ago \(last heard 20\S+Z; connected\)$/m);
    assert.match(cut, /^Fenced: +1 container \(onNodeLoss: stopThenReplace\), ended by T = 20\S+Z$/m);
    assert.match(cut, /^Others: +1 container, which goes on; the controller shows it as possibly running$/m);
    const told = await tasks();
    assert.deepEqual([told.get("free")!.certainty, told.get("free")!.possiblyUntil], ["unreachable", undefined]);
    const t = Date.parse(told.get("fenced")!.possiblyUntil!);
    assert.equal(told.get("fenced")!.certainty, "unreachable");
    const since = await metric("berth_cut_off_since_timestamp_seconds");
    assert.ok(Math.abs(t / 1_000 - (since + 4 + 2 + 0.02)) < 0.05, `T is ${t / 1_000 - since} s after the lease`);
    assert.ok(Math.abs((await metric("berth_fenced_until_timestamp_seconds")) - t / 1_000) < 0.05);
    assert.match(await http("/healthz"), /"cutOffSince":"20/);

    await lab.agent.kill();
    await lab.agent.start();
    assert.match(await berthd("status"), /cut off since .*not heard since the agent started/);
    assert.match(await berthd("tasks", "-A"), /cut off since/, "the list says so, too");
    await eventually("the stopper has ended it, and this is known here", async () => (await tasks()).get("fenced")!.state === "exited", { timeoutMs: 20_000 }); // prettier-ignore
    assert.ok(Date.now() <= t + 3_000 + 1_000, "by T, which a new agent reckons with the usual slack");
    await eventually("T has passed", async () => (await tasks()).get("fenced")!.certainty === "fenced", { timeoutMs: 20_000 }); // prettier-ignore
    assert.equal((await tasks()).get("free")!.state, "running");
    lab.controller.answering = true;
    await eventually("it is heard", async () => (await tasks()).get("free")!.certainty === "observed");
  });

  test("an agent whose lease is refused tells why, and one task is told in full", async () => {
    lab.controller.refusing = "the name belongs to another machine";
    await eventually("it knows", async () => /refused: the name belongs to another machine\)$/m.test(await berthd("status"))); // prettier-ignore
    const [free] = [...(await tasks()).values()].filter(({ name }) => name === "free");
    const one = await berthd("-n", "shop", "tasks", free!.name);
    assert.match(one, /^Certainty: +unreachable: cut off; it goes on \(onNodeLoss is not stopThenReplace\)$/m);
    const missing = await callBerthd(["-n", "shop", "tasks", "nope"], { BERTH_STATE: lab.agent.state });
    assert.deepEqual([missing.code, missing.stdout], [3, ""]);
    assert.match(missing.stderr, /task "nope" is not on this node, in namespace "shop"; berthd tasks -A lists all/);
    lab.controller.refusing = "";
  });
});
