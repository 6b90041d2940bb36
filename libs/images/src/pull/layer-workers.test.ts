import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { digestOf } from "@berth/base";
import type { LayerJob } from "./layer-job.ts";
import { LayerWorkers } from "./layer-workers.ts";

async function withBlob(body: (job: LayerJob) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "berth-workers-"));
  try {
    const bytes = randomBytes(1_000_000);
    const path = join(folder, "blob");
    await writeFile(path, bytes);
    const digest = digestOf(bytes);
    await body({ subject: "layer x", digest, sizeBytes: bytes.length, source: { kind: "file", path }, diffId: digest });
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function until(done: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!done()) {
    assert.ok(performance.now() < deadline, "waited too long");
    await delay(10);
  }
}

test("LayerWorkers reuses an idle thread and ends it after a while", async () => {
  await withBlob(async (job) => {
    await using workers = new LayerWorkers({ idleMs: 400, graceMs: 1000, maxThreads: 2 });
    assert.equal(workers.size, 0);
    await workers.run(job);
    const again = workers.run(job);
    assert.equal(workers.size, 1);
    await again;
    const both = Promise.all([workers.run(job), workers.run(job)]);
    assert.equal(workers.size, 2);
    await both;
    await until(() => workers.size === 0);
  });
});

test("LayerWorkers reports what a job threw, with its reason", async () => {
  await withBlob(async (job) => {
    await using workers = new LayerWorkers({ idleMs: 1000, graceMs: 1000 });
    const failing = workers.run({ ...job, diffId: digestOf("other") });
    await assert.rejects(failing, { code: "DATA_LOSS", reason: "LAYER_DIFF_ID_MISMATCH" });
    await workers.run(job);
    assert.equal(workers.size, 1, "a failed job does not cost its thread");
  });
});

test("LayerWorkers cancels by signal and at dispose", async () => {
  await withBlob(async (job) => {
    const workers = new LayerWorkers({ idleMs: 1000, graceMs: 1000 });
    await assert.rejects(workers.run(job, { signal: AbortSignal.abort() }), { code: "CANCELLED" });
    const abort = new AbortController();
    const running = assert.rejects(workers.run(job, { signal: abort.signal }), { code: "CANCELLED" });
    abort.abort();
    await running;
    const other = assert.rejects(workers.run(job), { code: "CANCELLED" });
    await workers[Symbol.asyncDispose]();
    await other;
    assert.equal(workers.size, 0);
    await assert.rejects(workers.run(job), { code: "CANCELLED" });
  });
});
