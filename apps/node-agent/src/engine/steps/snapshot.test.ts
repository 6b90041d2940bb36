import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import type { PrepareOptions, Snapshotter } from "@berth/snapshots";
import type { ContainerPlan } from "../plan.ts";
import { snapshotStep } from "./snapshot.ts";
import type { StartContext } from "./step.ts";

const unsupported = new StatusError("UNIMPLEMENTED", 'snapshot "k": overlayfs cannot bound its size', {
  reason: "SNAPSHOT_QUOTA_UNSUPPORTED",
});

/** The step over a snapshotter that has quotas or not, and may refuse. */
async function run(
  plan: Partial<ContainerPlan>,
  node: { readonly quota?: boolean; readonly refusal?: StatusError; readonly defaultDiskBytes?: number } = {},
) {
  const asked: PrepareOptions[] = [];
  const warnings: string[] = [];
  const snapshotter = {
    name: "overlayfs",
    capabilities: { quota: node.quota ?? true },
    async prepare(_key: string, _parent: string, options: PrepareOptions) {
      asked.push(options);
      if (node.refusal !== undefined) throw node.refusal;
      return [];
    },
  } as unknown as Snapshotter;
  const context = {
    container: { namespace: "shop", id: "t", snapshotKey: "k", plan: { snapshotter: "overlayfs", ...plan } },
    facts: { image: { chainId: "c" } },
    onWarning: (reason: string, message: string) => void warnings.push(`${reason}: ${message}`),
  } as unknown as StartContext;
  const { defaultDiskBytes } = node;
  await snapshotStep({ snapshotter: () => snapshotter, defaultDiskBytes }).run(context);
  const [{ labels: _, ...options } = {}] = asked;
  return { options, warnings };
}

const silent = (options: PrepareOptions) => ({ options, warnings: [] });

test("snapshotStep bounds by the plan, else by the node's default, else not", async () => {
  assert.deepEqual(await run({}), silent({}));
  assert.deepEqual(await run({}, { defaultDiskBytes: 7 }), silent({ maxBytes: 7 }));
  assert.deepEqual(await run({ diskBytes: 5 }, { defaultDiskBytes: 7 }), silent({ maxBytes: 5 }));
  assert.deepEqual(await run({ volatileRootfs: true }), silent({ volatile: true }));
});

test("snapshotStep says which bound the snapshotter refused", async () => {
  const refusal = { reason: unsupported.reason, code: "UNIMPLEMENTED" };
  await assert.rejects(run({ diskBytes: 1 << 20 }, { refusal: unsupported }), {
    ...refusal,
    message: /^resources\.disk 1Mi: snapshot "k": overlayfs cannot bound its size; .*leave the field out/,
  });
  await assert.rejects(run({}, { refusal: unsupported, defaultDiskBytes: 1 << 20 }), {
    ...refusal,
    message: /^defaultDiskBytes of this node's configuration: .*remove that setting/,
  });
  const other = new StatusError("RESOURCE_EXHAUSTED", "no space");
  await assert.rejects(run({ diskBytes: 1 << 20 }, { refusal: other }), other);
});

test("snapshotStep warns of a plan's bound that is let go; not of the node's own, nor of a snapshot that is there", async () => {
  const { warnings } = await run({ diskBytes: 1 << 30 }, { quota: false });
  assert.deepEqual(warnings, ["DiskUnbounded: resources.disk 1Gi is not enforced: overlayfs has no quotas here"]);
  assert.deepEqual((await run({}, { quota: false, defaultDiskBytes: 7 })).warnings, []);
  const exists = new StatusError("ALREADY_EXISTS", "exists");
  assert.deepEqual((await run({ diskBytes: 1 << 30 }, { quota: false, refusal: exists })).warnings, []);
});
