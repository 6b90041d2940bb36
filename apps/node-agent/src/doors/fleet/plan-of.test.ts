import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { TaskAssignmentSchema, type ContainerSpecSchema } from "@berth/proto";
import type { ContainerPlan } from "../../engine/plan.ts";
import { planOf } from "./plan-of.ts";

const defaults = { handler: "runc", handlers: ["runc", "crun"], snapshotter: "overlayfs", snapshotters: ["overlayfs"] };

function plan(container: MessageInitShape<typeof ContainerSpecSchema>): ContainerPlan | StatusError {
  return planOf(create(TaskAssignmentSchema, { name: "web-0", container }), defaults);
}

test("planOf fills in the node's defaults", () => {
  assert.deepEqual(plan({ image: "busybox" }), {
    image: "busybox",
    snapshotter: "overlayfs",
    handler: "runc",
    container: {
      env: [],
      mounts: [],
      capabilities: { add: [], drop: [] },
      privileged: false,
      noNewPrivileges: true,
      readOnlyRootfs: false,
    },
    hostname: "web-0",
    network: { mode: "bridge", ports: [] },
    stopGraceMs: 10_000,
  });
});

test("planOf translates everything that a spec can say", () => {
  const result = plan({
    image: "busybox",
    command: ["/bin/x"],
    args: ["y"],
    env: [{ name: "A", value: "b" }],
    workdir: "/w",
    user: "1:2",
    hostname: "h",
    mounts: [
      { type: "bind", source: "/s", target: "/t", readOnly: true },
      { type: "tmpfs", target: "/m", size: "64Mi" },
    ],
    resources: { cpu: "500m", memory: "64Mi", pids: 10n, disk: "1Gi" },
    volatileRootfs: true,
    security: {
      addCapabilities: ["NET_ADMIN"],
      readOnlyRootfs: true,
      seccomp: "unconfined",
      allowPrivilegeEscalation: true,
    },
    network: { mode: "host" },
    runtimeHandler: "crun",
    stop: { signal: "QUIT", grace: { seconds: 2n, nanos: 500_000_000 } },
  });
  assert.deepEqual(result, {
    image: "busybox",
    snapshotter: "overlayfs",
    handler: "crun",
    container: {
      command: ["/bin/x"],
      args: ["y"],
      env: [{ name: "A", value: "b" }],
      workingDir: "/w",
      user: "1:2",
      mounts: [
        { type: "bind", source: "/s", destination: "/t", readOnly: true },
        { type: "tmpfs", destination: "/m", readOnly: false, sizeBytes: 67_108_864 },
      ],
      capabilities: { add: ["NET_ADMIN"], drop: [] },
      privileged: false,
      noNewPrivileges: false,
      readOnlyRootfs: true,
      seccomp: "unconfined",
      resources: {
        cpuQuotaMicros: 50_000,
        cpuPeriodMicros: 100_000,
        cpuShares: 512,
        memoryBytes: 67_108_864,
        pids: 10,
      },
    },
    hostname: "h",
    network: { mode: "host", ports: [] },
    diskBytes: 1_073_741_824,
    volatileRootfs: true,
    stopSignal: "SIGQUIT",
    stopGraceMs: 2_500,
  });
});

test("planOf says what this node cannot do", () => {
  const problem = (container: MessageInitShape<typeof ContainerSpecSchema>): string => {
    const result = plan(container);
    return result instanceof StatusError ? result.message : "";
  };
  assert.match(
    problem({ image: "x", runtimeHandler: "kata" }),
    /spec\.runtimeHandler: this node has no "kata"; it has runc, crun/,
  );
  assert.match(problem({ image: "x", snapshotter: "zfs" }), /spec\.snapshotter/);
  assert.match(problem({ image: "x", resources: { memory: "many" } }), /many/);
  assert.ok(planOf(create(TaskAssignmentSchema, { name: "empty" }), defaults) instanceof StatusError);
});
