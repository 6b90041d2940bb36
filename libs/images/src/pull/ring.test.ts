import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { ringMemory, RingReader, RingWriter, type RingMemory } from "./ring.ts";

/** Writes numbered chunks of changing lengths; says how many the reader let it. */
async function write(memory: RingMemory, chunks: number): Promise<number> {
  const ring = new RingWriter(memory);
  for (let n = 0; n < chunks; n += 1) {
    let buffer: Buffer | undefined;
    while (!ring.closed && (buffer = ring.take()) === undefined) await ring.free();
    if (buffer === undefined || ring.closed) return n;
    const length = lengthOf(n);
    buffer.fill(n & 0xff, 0, length);
    ring.push(length);
  }
  ring.end();
  return chunks;
}

const lengthOf = (n: number): number => 1 + ((n * 7919) % 4000);

async function readAll(memory: RingMemory): Promise<number> {
  let next = 0;
  await new RingReader(memory).read((chunk) => {
    assert.equal(chunk.length, lengthOf(next));
    assert.ok(
      chunk.every((byte) => byte === (next & 0xff)),
      `chunk ${next}`,
    );
    next += 1;
    return true;
  });
  return next;
}

test("RingReader reads what another thread writes, whole and in order", async () => {
  const memory = ringMemory();
  const script = `
    const { workerData } = require("node:worker_threads");
    import(workerData.module).then(async ({ RingWriter }) => {
      const ring = new RingWriter(workerData.memory);
      for (let n = 0; n < 20000; n += 1) {
        let buffer;
        while ((buffer = ring.take()) === undefined) await ring.free();
        const length = 1 + ((n * 7919) % 4000);
        buffer.fill(n & 0xff, 0, length);
        ring.push(length);
      }
      ring.end();
    });`;
  const module = new URL("ring.ts", import.meta.url).href;
  const worker = new Worker(script, { eval: true, workerData: { module, memory } });
  const exited = once(worker, "exit");
  assert.equal(await readAll(memory), 20_000);
  await exited;
});

test("RingReader and RingWriter wait for each other within a thread, too", async () => {
  const memory = ringMemory();
  const [written, read] = await Promise.all([write(memory, 500), readAll(memory)]);
  assert.deepEqual([written, read], [500, 500]);
});

test("RingReader.close frees a writer that waits for room", async () => {
  const memory = ringMemory();
  const writing = write(memory, 1_000);
  const reader = new RingReader(memory);
  let seen = 0;
  await reader.read(() => (seen += 1) < 3);
  assert.equal(seen, 3);
  assert.ok((await writing) < 1_000);
});

test("RingReader.close ends a read that waits for the writer", async () => {
  const memory = ringMemory();
  const reader = new RingReader(memory);
  const reading = reader.read(() => true);
  reader.close();
  await reading;
});

test("RingReader ends with a writer that has nothing more to say, after all that it pushed", async () => {
  const memory = ringMemory();
  assert.equal(await write(memory, 5), 5);
  assert.equal(await readAll(memory), 5);
});
