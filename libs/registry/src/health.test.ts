import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { once } from "node:events";
import { HealthMemory } from "./health.ts";

test("HealthMemory makes an endpoint be passed by for a growing time, with one probe at a time", () => {
  const memory = new HealthMemory();
  const asked = (nowMs: number): boolean => memory.claim("m", memory.look("m"), nowMs);
  assert.ok(asked(0));
  memory.failed("m", memory.look("m"), 1_000);
  assert.ok(!asked(5_999));
  assert.ok(asked(6_000), "the first time is over");
  assert.ok(!asked(6_001), "somebody probes already");
  memory.failed("m", memory.look("m"), 7_000);
  assert.ok(!asked(16_999));
  assert.ok(asked(17_000), "and the second, twice as long");
  memory.succeeded("m");
  assert.ok(asked(17_001));
  assert.ok(memory.claim("other", memory.look("other"), 0));
});

test("HealthMemory counts the failures of concurrent requests once, and heeds what a server asks for", () => {
  const memory = new HealthMemory();
  const seen = memory.look("m");
  for (let request = 0; request < 20; request += 1) memory.failed("m", seen, 0);
  assert.equal(memory.look("m").failures, 1n);
  assert.equal(memory.look("m").untilMs, 5_000);
  memory.failed("asked", memory.look("asked"), 0, 60_000);
  assert.equal(memory.look("asked").untilMs, 60_000);
  for (let probe = 0; probe < 40; probe += 1) memory.failed("m", memory.look("m"), 0);
  assert.equal(memory.look("m").untilMs, 300_000, "five minutes at most");
});

test("HealthMemory remembers the latest of more endpoints than it has places for", () => {
  const memory = new HealthMemory();
  for (let index = 0; index < 5_000; index += 1) memory.failed(`m${index}`, memory.look(`m${index}`), index);
  assert.equal(memory.look("m4999").failures, 1n);
});

test("HealthMemory is one for all threads", async () => {
  const memory = new HealthMemory();
  const code = `
    import { workerData } from "node:worker_threads";
    const { HealthMemory } = await import(workerData.module);
    const memory = new HealthMemory(workerData.buffer);
    memory.failed("m", memory.look("m"), 0);
  `;
  const module = new URL("health.ts", import.meta.url).href;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
    workerData: { module, buffer: memory.buffer },
  });
  await once(worker, "exit");
  assert.equal(memory.look("m").failures, 1n);
});
