/**
 * `berth drill` on real agents with real containers: each kind passes, heals by itself, and its report outlives its caller and its
 * controller. What is refused is refused before anything happens.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type AgentProcess, type Fleet } from "@berth/testkit";
import { journalsAreWhole } from "../support/journals.ts";
import { pushHello, startsByExecution, tasksOf, workloadManifest } from "../support/fleet.ts";

interface Report {
  readonly verdict: string;
  readonly steps: readonly {
    readonly step: string;
    readonly report?: { readonly invariants: readonly { readonly name: string; readonly outcome?: string }[] };
  }[];
}

describe("berth drill", { timeout: 120_000 }, () => {
  let fleet: Fleet;
  let first: AgentProcess;
  let second: AgentProcess;
  before(async () => {
    fleet = await startFleet({
      leaseTtlMs: 2_000,
      env: (program) => ({ BERTH_SUPERVISED: String(program === "node-1") }),
    });
    [first, second] = fleet.agents as [AgentProcess, AgentProcess];
    const image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
    const manifests = ["replace", "stopThenReplace", "keep"].map((onNodeLoss) =>
      workloadManifest({ name: onNodeLoss.toLowerCase(), image, replicas: 2, args: ["sleep", "1000"], onNodeLoss, stopGrace: "0.2s" }),
    ); // prettier-ignore
    await fleet.berth(["apply", "-f", "-", "--wait"], manifests.join("\n---\n"));
    for (const { name } of fleet.agents) assert.ok((await tasksOn(name)).length > 0);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const tasksOn = async (node: string) =>
    (await Promise.all(["replace", "stopthenreplace", "keep"].map((name) => tasksOf(fleet, name))))
      .flat()
      .filter(({ spec }) => spec.node === node);
  const on = ({ name }: AgentProcess): string[] => ["-l", `berth.io/hostname=${name}`];
  /** Begins one, and tells its name once it has begun; its output is read to the end. */
  const begin = async (...args: string[]) => {
    // What was hurt before may have cost a node its lease.
    await eventually("all nodes are Ready", async () => !/NotReady|Unknown/.test(await fleet.berth(["nodes"])));
    const child = fleet.startBerth("drill", ...args);
    let printed = "";
    child.stdout.setEncoding("utf8").on("data", (more: string) => (printed += more));
    const errors = text(child.stderr);
    const ended = once(child, "close") as Promise<[number]>;
    const name = await Promise.race([
      eventually("it has begun", () => /^ {2}drill (\S+)$/m.exec(printed)?.[1]),
      ended.then(async ([code]) => assert.fail(`ended with ${code}: ${printed}${await errors}`)),
    ]);
    return { name, child, ended: ended.then(async ([code]) => ({ code, stdout: printed, stderr: await errors })) };
  };
  const reportOf = async (name: string) => {
    const report = JSON.parse(await fleet.berth(["drill", "show", name, "-o", "json"])) as Report;
    const invariants = report.steps.at(-1)?.report?.invariants ?? [];
    return { ...report, outcomes: new Map(invariants.map((each) => [each.name, each.outcome])), count: (step: string) => report.steps.filter((each) => each.step === step).length }; // prettier-ignore
  };

  void test("is refused past its bounds and where nothing would heal, and a dry run does nothing", async () => {
    const refusal = async (...args: string[]) => (await fleet.cli("drill", ...args)).stderr;
    const both = ["-l", "berth.io/os=linux"];
    const refused = [
      refusal("pause", "--for", "5s", ...both),
      refusal("kill", ...on(second)),
      refusal("show", "kill-nosuch"),
    ];
    const [many, unsupervised, unknown] = (await Promise.all(refused)) as [string, string, string];
    assert.match(many, /maxNodes: .* matches 2 nodes .* raise --max-nodes/);
    assert.match(unsupervised, /node node-2: nothing is known to start its agent again: .*BERTH_SUPERVISED/);
    assert.match(unknown, /does not exist/);
    const planned = await fleet.berth(["drill", "kill", ...on(first), "--dry-run"]);
    assert.match(planned, /Planned {4}would kill the agent of node-1, with \d tasks/);
  });

  void test("kill: containers keep their processes, and another controller judges what the first one began", async () => {
    const before = pidsOf(first);
    const drill = await begin("kill", ...on(first));
    await fleet.controller.kill();
    assert.equal(await first.ended(10_000), true);
    await Promise.all([first.start(), fleet.controller.start()]);
    const { code, stdout, stderr } = await drill.ended;
    assert.equal(code, 0, stdout + stderr);
    assert.match(stderr, /the controller answers again/);
    assert.match(stdout, /Restarted {2}node node-1 has another agent[^]* {2}held {7}all other containers went on\n/);
    assertWentOn(before, first, 1);
    assert.match(await fleet.berth(["drill", "list"]), new RegExp(`${drill.name} +kill +node-1 +- +Passed`));
  });

  void test("pause: the agent goes on by itself, and its report does not need its caller", async () => {
    const [agent, before] = [second.pid, pidsOf(second)];
    const drill = await begin("pause", ...on(second), "--for", "5s");
    drill.child.kill("SIGINT");
    assert.match(
      (await drill.ended).stderr,
      new RegExp(`it goes on, and is judged: berth drill show ${drill.name} -w`),
    );
    assert.match(await second.host.exec(["cat", `/proc/${agent}/stat`]), / T /);
    assert.match(
      (await fleet.cli("drill", "pause", ...on(first), "--for", "5s")).stderr,
      /is under way: wait for its end/,
    );
    const shown = await fleet.cli("drill", "show", drill.name, "-w");
    assert.equal(shown.code, 0, shown.stdout + shown.stderr);
    const report = await reportOf(drill.name);
    assert.deepEqual([report.verdict, report.count("Noticed"), report.count("Healed")], ["Passed", 1, 1]);
    assert.equal(report.outcomes.get("all other containers went on"), "Held");
    assert.equal(second.pid, agent);
    assertWentOn(before, second, 2);
  });

  void test("partition: noticed, replaced after T, and an agent that is started again stays cut off until the end", async () => {
    const drill = await begin("partition", ...on(first), "--for", "8s");
    await first.kill();
    await first.start();
    const { code, stdout, stderr } = await drill.ended;
    assert.equal(code, 0, stdout + stderr);
    const report = await reportOf(drill.name);
    assert.deepEqual([report.verdict, report.count("Noticed"), report.count("Healed")], ["Passed", 1, 1]);
    assert.equal(report.outcomes.get("each stopThenReplace task was replaced after T"), "Held");
    assert.deepEqual([...report.outcomes].filter(([, outcome]) => outcome !== "Held"), []); // prettier-ignore
    for (const [execution, count] of await startsByExecution(fleet)) assert.equal(count, 1, execution);
    await journalsAreWhole(fleet);
  });
});

/** Supervisors go on, but for the stopThenReplace task's and, of a node that was silent, that of the one that was replaced. */
function assertWentOn(before: readonly number[], agent: AgentProcess, mayEnd: number): void {
  const now = pidsOf(agent);
  const lost = before.filter((pid) => !now.includes(pid));
  assert.ok(lost.length <= mayEnd, `of ${before.join(", ")} there are ${now.join(", ")}`);
}

const pidsOf = (agent: AgentProcess): number[] => agent.processes().map(({ pid }) => pid).toSorted((a, b) => a - b); // prettier-ignore
