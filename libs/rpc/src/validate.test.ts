import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import {
  ApplyWorkloadRequestSchema,
  ExecRequestSchema,
  ListEventsRequestSchema,
  ScaleWorkloadRequestSchema,
  TaskService,
  WorkloadSchema,
  WorkloadService,
  type Workload,
} from "@berth/proto";
import { checkMessage, validateRequest } from "./validate.ts";

function workload(container: object, rest: object = {}): Workload {
  return create(WorkloadSchema, {
    metadata: { name: "web", namespace: "demo" },
    spec: { container: { image: "a", ...container }, ...rest },
  });
}

function violationsOf(message: Workload): Record<string, string> {
  return Object.fromEntries(
    checkMessage(WorkloadSchema, message).map(({ field, description }) => [field, description]),
  );
}

test("checkMessage finds nothing wrong with a good resource", () => {
  const good = workload({
    env: [{ name: "A", value: "" }],
    user: "1000:1000",
    mounts: [{ target: "/tmp", type: "tmpfs", size: "64Mi" }],
    security: { addCapabilities: ["net_admin"], seccomp: "" },
    stop: { signal: "SIGRTMIN+1", grace: { seconds: 5n } },
  });
  assert.deepEqual(violationsOf(good), {});
});

test("checkMessage refuses text that Postgres cannot store, wherever it stands", () => {
  const found = violationsOf(
    workload(
      { command: ["sh", "a\0b"], env: [{ name: "A", value: "\ud800" }] },
      { placement: { nodeSelector: { zone: "a\0" } } },
    ),
  );
  assert.deepEqual(found, {
    "spec.container.command[1]": "has a NUL character",
    "spec.container.env[0].value": "is not valid Unicode text",
    'spec.placement.nodeSelector["zone"]': "has a NUL character",
  });
});

test("checkMessage bounds text, lists and maps", () => {
  const labels = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, "v"]));
  const large = workload({ user: "u".repeat(129), command: Array.from({ length: 257 }, () => "x") });
  large.metadata!.labels = labels;
  assert.deepEqual(violationsOf(large), {
    "metadata.labels": "has 65 entries; at most 64 are allowed",
    "spec.container.user": "is 129 characters long; at most 128 are allowed",
    "spec.container.command": "has 257 items; at most 256 are allowed",
  });
});

test("checkMessage checks keys and values of labels, and empty items of formatted lists", () => {
  const wrong = workload({ security: { dropCapabilities: [""] } });
  wrong.metadata!.labels = { "bad key": "ok", ok: "bad value" };
  assert.deepEqual(Object.keys(violationsOf(wrong)), [
    'metadata.labels["bad key"]',
    'metadata.labels["ok"]',
    "spec.container.security.dropCapabilities[0]",
  ]);
});

test("checkMessage clears what only the controller sets, and never complains of it", () => {
  const shown = workload({});
  shown.metadata!.uid = "u";
  shown.metadata!.generation = 4n;
  shown.metadata!.createdAt = timestampFromMs(0);
  shown.metadata!.resourceVersion = 9n;
  assert.deepEqual(violationsOf(shown), {});
  assert.equal(shown.metadata!.uid, "");
  assert.equal(shown.metadata!.generation, 0n);
  assert.equal(shown.metadata!.createdAt, undefined);
  assert.equal(shown.metadata!.resourceVersion, 9n, "the resource version is the user's to give");
});

test("checkMessage stops at a bounded number of violations", () => {
  const env = Array.from({ length: 1000 }, () => ({ name: "1X" }));
  assert.equal(checkMessage(WorkloadSchema, workload({ env })).length, 50);
});

test("validateRequest leaves the body's field out of paths, and names it where it is missing", () => {
  const apply = WorkloadService.method.applyWorkload;
  const refusal = (request: Parameters<typeof validateRequest>[1]): string => {
    try {
      validateRequest(apply, request);
    } catch (error) {
      assert.ok(error instanceof StatusError && error.reason === "FIELD_INVALID");
      return error.message;
    }
    return "";
  };
  assert.equal(refusal(create(ApplyWorkloadRequestSchema)), "workload: is required");
  assert.equal(refusal(create(ApplyWorkloadRequestSchema, { workload: {} })), "spec: is required");
  assert.equal(refusal(create(ApplyWorkloadRequestSchema, { workload: { spec: {} } })), "spec.container: is required");
});

test("validateRequest checks numbers, lists and the parts of a oneof", () => {
  const scale = create(ScaleWorkloadRequestSchema, { namespace: "a", name: "b", replicas: 10_001 });
  assert.throws(
    () => validateRequest(WorkloadService.method.scaleWorkload, scale),
    /replicas: is 10001; the most is 10000/,
  );
  const exec = create(ExecRequestSchema, { message: { case: "open", value: { namespace: "a", name: "B" } } });
  assert.throws(
    () => validateRequest(TaskService.method.exec, exec),
    /open\.name: "B" has upper-case letters.*open\.command: is required/,
  );
  const filters = Array.from({ length: 17 }, () => "name");
  const list = checkMessage(ListEventsRequestSchema, create(ListEventsRequestSchema, { namespace: "-", filters }));
  assert.deepEqual(
    list.map(({ field }) => field),
    ["filters"],
  );
});
