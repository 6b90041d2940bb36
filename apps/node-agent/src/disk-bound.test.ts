/** `resources.disk` in a real agent whose data root is a btrfs with quotas: who is bounded, who is not, and where it cannot be. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ContainerSpecSchema, type ContainerSpec } from "@berth/proto";
import { sharedLoopDisk, withoutLoopDisk } from "@berth/snapshots/testing";
import { eventually } from "@berth/testkit";
import { startAgentLab, type AgentLab } from "./testing/agent-lab.ts";

const MIB = 1 << 20;
const skip = withoutLoopDisk("btrfs");
const disk = sharedLoopDisk("btrfs", (path) => execFileSync("btrfs", ["quota", "enable", path]));

describe("a bound on the writable layer", { skip }, () => {
  let lab: AgentLab;
  before(async () => {
    lab = await startAgentLab({ config: { root: disk(), snapshotter: "btrfs", defaultDiskBytes: 4 * MIB } });
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Says what became of writing so many MiB once `go` is there. */
  const writer = (uid: string, mib: number, rest: MessageInitShape<typeof ContainerSpecSchema> = {}): ContainerSpec =>
    create(ContainerSpecSchema, {
      image: lab.image,
      command: ["/bin/sh", "-c", WRITER, "sh", uid, String(mib)],
      mounts: [{ type: "bind", source: lab.shared, target: "/shared" }],
      ...rest,
    });
  const run = (taskUid: string, container: ContainerSpec) =>
    lab.controller.run({ taskUid, name: taskUid.slice(2), container });
  const seen = (uid: string, step: string) =>
    eventually(`${uid} is ${step}`, () => lab.controller.stepNames(uid).includes(step), { timeoutMs: 30_000 });
  const scrape = async () => await (await fetch(`http://${lab.agent.host.address}:1338/metrics`)).text();
  const failure = (uid: string) => lab.controller.stepsOf(uid).at(-1)?.message ?? "";

  const unable = { snapshotter: "overlayfs", resources: { disk: "8Mi" }, volatileRootfs: true };

  test("that the snapshotter cannot keep fails the task, naming field, snapshotter and ways out", async () => {
    const tasks = [
      await run("t-refused", writer("t-refused", 1, unable)),
      await run("t-refused-default", writer("t-refused-default", 1, { snapshotter: "overlayfs" })),
    ];
    await Promise.all(tasks.map(({ taskUid }) => seen(taskUid, "failed")));
    assert.match(
      failure("t-refused"),
      /^resources\.disk 8Mi: .*overlayfs cannot bound its size: .*leave the field out, or let the node run it unbounded \(missingSnapshotQuota: warn\)/,
    );
    assert.match(failure("t-refused-default"), /^defaultDiskBytes of this node's configuration: .*overlayfs cannot/);
    for (const task of tasks) await lab.controller.stop(task);
    await Promise.all(tasks.map(({ taskUid }) => seen(taskUid, "removed")));
  });

  test("outlives kill -9 of the agent, holds for each container alone, and is the node's where the task has none", async () => {
    const tasks = [
      await run("t-bounded", writer("t-bounded", 24, { resources: { disk: "8Mi" } })),
      await run("t-larger", writer("t-larger", 24, { resources: { disk: "64Mi" } })),
      await run("t-default", writer("t-default", 24)),
    ];
    await Promise.all(tasks.map(({ taskUid }) => seen(taskUid, "started")));
    await lab.agent.kill();
    assert.ok(await lab.agent.ended(5_000));
    configure(lab, { missingSnapshotQuota: "warn" });
    await lab.agent.start();
    assert.match(
      await scrape(),
      /container_fs_limit_bytes\{namespace="shop",id="t-bounded",name="bounded"\} 8388608\n/,
    );
    assert.match(await scrape(), /container_fs_usage_bytes\{namespace="shop",id="t-default",name="default"\} [1-9]/);
    lab.touch("go");
    await Promise.all(tasks.map(({ taskUid }) => seen(taskUid, "exited")));
    assert.match(lab.lines("t-bounded").join(), /Disk quota exceeded/);
    assert.match(lab.lines("t-default").join(), /Disk quota exceeded/);
    assert.deepEqual(lab.lines("t-larger"), ["wrote 24 MiB"]);
    const codes = tasks.map(({ taskUid }) => lab.controller.stepsOf(taskUid).at(-1)?.exitCode);
    assert.deepEqual(codes, [1, 0, 1]);
    for (const task of tasks) await lab.controller.stop(task);
    await Promise.all(tasks.map(({ taskUid }) => seen(taskUid, "removed")));
    assert.deepEqual(lab.leftovers(), []);
  });

  test("that the snapshotter cannot keep is news where the node runs it all the same", async () => {
    await run("t-unbounded", writer("t-unbounded", 24, unable));
    await seen("t-unbounded", "exited");
    assert.deepEqual(lab.lines("t-unbounded"), ["wrote 24 MiB", "volatile"]);
    const entries = [...lab.controller.journal.values()].flat();
    const agent = entries.flatMap(({ body }) => (body.case === "agent" ? [body.value] : []));
    assert.deepEqual(
      agent.filter(({ reason }) => reason === "DiskUnbounded").map(({ step, message }) => `${step}: ${message}`),
      ["warning: task shop/unbounded: resources.disk 8Mi is not enforced: overlayfs has no quotas here"],
    );
  });
});

const WRITER = `
while [ ! -e /shared/go ]; do sleep 0.1; done
said=$(dd if=/dev/zero of=/big bs=1M count="$2" 2>&1); code=$?
if [ $code = 0 ]; then said="wrote $2 MiB"; fi
echo "$said" >> "/shared/$1"
grep -q '^overlay / .*volatile' /proc/mounts && echo volatile >> "/shared/$1"
exit $code`;

function configure(lab: AgentLab, settings: Record<string, unknown>): void {
  const path = join(lab.dir, lab.agent.name, "config.json");
  writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, "utf8")) as object), ...settings }));
}
