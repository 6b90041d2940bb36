/** The operators' pages, read out and run on a fleet with containers: each command that they show, in their order. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { WorkloadService } from "@berth/proto";
import { ask, phaseOf, pushHello } from "../support/fleet.ts";
import { fenceOf, readPage, walk, type WalkOptions } from "../support/documents.ts";

const BERTHD = resolve(import.meta.dirname, "../../bin/berthd");
const LABELS = [{ zone: "a", rack: "r7" }, { zone: "b" }, { zone: "c" }];

void describe("the operators' pages", { timeout: 280_000 }, () => {
  let fleet: Fleet;
  let image: string;
  let files = 0;

  before(async () => {
    fleet = await startFleet({ nodes: 3, labels: LABELS });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "shop"]);
    await apply("1");
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  /** The pages' `web`: its image and command are ours. */
  const web = (word: string): string =>
    JSON.stringify({
      apiVersion: "berth/v1",
      kind: "Workload",
      metadata: { name: "web", namespace: "shop" },
      spec: {
        replicas: 2,
        rollout: { maxUnavailable: 2 },
        container: { image, args: ["sleep", "1000"], env: [{ name: "WORD", value: word }], stop: { grace: "0.2s" } },
      },
    });
  const apply = (word: string): Promise<string> => fleet.berth(["apply", "-f", "-", "--wait"], web(word));
  const fileOf = (text: string): string => {
    const file = join(fleet.dir, `document-${(files += 1)}.yaml`);
    writeFileSync(file, text);
    return file;
  };
  /** `ns use shop` was said before; `berthd` is asked on the host that is silent. */
  const run: WalkOptions["run"] = async (program, args) => {
    if (program === "berth") return await fleet.cli("-n", "shop", ...args);
    assert.equal(program, "berthd");
    const env = { ...process.env, BERTH_STATE: fleet.agents[1]!.state };
    return await new Promise((done) =>
      execFile(BERTHD, args, { env }, (error, stdout, stderr) =>
        done({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
      ),
    );
  };
  const tasks = async (): Promise<{ metadata: { name: string }; spec: { node: string } }[]> =>
    JSON.parse(await fleet.berth(["-n", "shop", "get", "tasks", "--workload", "web", "-o", "json"])) as never;

  void test("rollouts.md", async () => {
    const revision = async (): Promise<bigint> => {
      const { status } = await ask(fleet, WorkloadService, (client) => client.getWorkload({ namespace: "shop", name: "web" })); // prettier-ignore
      return status!.rollout!.revision;
    };
    const printed = await walk(readPage("operations/rollouts.md"), {
      run,
      words: [["web.yaml", fileOf(web("4"))]],
      before: {
        "berth apply": async () => {
          await apply("2");
          await apply("3");
        },
        "berth rollout restart": () => eventually("undo is a revision", async () => (await revision()) === 5n),
      },
    });
    assert.match(printed.get("berth rollout history web")!, /\n4 .*faster start/);
    await fleet.berth(["-n", "shop", "wait", "web"]);
  });

  void test("history.md", async () => {
    const now = new Date().toISOString();
    const words = [["2026-11-29T12:00:00Z", now], ["90m", "1s"], ["2h", "1s"]] as const; // prettier-ignore
    const printed = await walk(readPage("operations/history.md"), { run, words });
    assert.match(printed.get("berth nodes --as-of 2h")!, /node-1 +Ready/);
  });

  void test("placement.md", async () => {
    // What is on node-1 is ended by the page's NoExecute.
    const task = (await tasks()).find(({ spec }) => spec.node !== "node-1");
    const printed = await walk(readPage("placement.md"), { run, words: [["web-7k2mq", task!.metadata.name]] });
    assert.match(printed.get("berth explain workload web")!, /workload\/web +\d placed/);
  });

  void test("journals.md: nothing is acknowledged where nothing is broken", async () => {
    const printed = await walk(readPage("operations/journals.md"), {
      run,
      words: [["NODE", "node-1"]],
      codes: { "berth journal acknowledge": 4 },
    });
    assert.match(printed.get("berth journal verify NODE")!, /\n\S+ +\d+ +1 +1 +\d+ +0 /);
  });

  void test("jobs.md", async () => {
    const page = readPage("operations/jobs.md");
    const ours = (text: string): string =>
      text
        .replaceAll("registry.example/shop:v3", image)
        .replace("args: [migrate]", 'args: ["true"]')
        .replace("args: [report]", 'args: ["true"]');
    const printed = await walk(page, {
      run,
      only: /^(?!berth get cronjobs -w)/,
      words: [
        ["migrate.yaml", fileOf(ours(fenceOf(page, "yaml", "name: migrate")))],
        ["report.yaml", fileOf(ours(fenceOf(page, "yaml", "kind: CronJob")))],
        ["registry.example/shop:v3", image],
        ["-- migrate", "-- true"],
      ],
      before: { "berth run": () => fleet.berth(["-n", "shop", "delete", "workload", "migrate", "--wait"]) },
    });
    assert.match(printed.get("berth get cronjobs")!, /report +30 2 \* \* 1-5/);
  });

  void test("webhooks.md: an address that is not of the public internet is refused, and said to be", async () => {
    const page = readPage("operations/webhooks.md");
    const manifest = fenceOf(page, "yaml", "kind: Webhook").replace(/url: \S+/, "url: http://127.0.0.1:9/berth");
    const printed = await walk(page, {
      run,
      words: [["webhook.yaml", fileOf(manifest)]],
      codes: { "berth -n shop webhook test": 1 },
    });
    assert.match(printed.get("berth -n shop webhook test ci")!, /127\.0\.0\.1/);
    assert.match(printed.get("berth -n shop webhook rotate-secret ci --grace 24h")!, /whsec_/);
  });

  void test("cli.md: status, top, and the store", async () => {
    const printed = await walk(readPage("cli.md"), { run, only: /^berth (status|top|store status)/ });
    assert.match(printed.get("berth top nodes")!, /node-3/);
  });

  void test("drain.md", async () => {
    await walk(readPage("operations/drain.md"), { run, only: /^berth drain/ });
    for (const { name } of fleet.agents) await fleet.berth(["uncordon", name]);
  });

  void test("node-loss.md, on a node that is silent", async () => {
    await fleet.berth(["cordon", "node-1"]);
    await fleet.berth(["cordon", "node-3"]);
    await fleet.berth(["-n", "shop", "delete", "workload", "web", "--wait"]);
    await apply("lost");
    const lost = (await tasks()).find(({ spec }) => spec.node === "node-2");
    assert.ok(lost !== undefined, "some of web is on node-2");
    await fleet.agents[1]!.host.cut();
    await eventually("it is silent", async () => (await phaseOf(fleet, "node-2")) === "Unknown", { timeoutMs: 20_000 });
    const printed = await walk(readPage("operations/node-loss.md"), {
      run,
      words: [["node-7", "node-2"], ["web-x7k2p", lost.metadata.name]], // prettier-ignore
    });
    assert.match(printed.get("berth explain node node-7")!, /node-2 is silent since/);
    assert.match(printed.get("berthd status")!, /cut off since/);
    await fleet.agents[1]!.host.heal();
    await eventually("it is back", async () => (await phaseOf(fleet, "node-2")) === "Ready", { timeoutMs: 30_000 });
  });
});
