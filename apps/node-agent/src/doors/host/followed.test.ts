import assert from "node:assert/strict";
import { test } from "node:test";
import { handOver } from "./hand-over.ts";
import { followed, inBatches } from "./followed.ts";

const never = new AbortController().signal;

test("followed gives the newest progress to a slow caller, and the result last", async () => {
  const steps: unknown[] = [];
  const work = followed(never, async (tell: (n: number) => void) => {
    for (const n of [1, 2, 3]) tell(n);
    return "done";
  });
  for await (const step of work) steps.push(step);
  assert.deepEqual(steps, [{ progress: 3 }, { done: "done" }]);
});

test("followed calls the work off when its caller leaves, and waits for its end", async () => {
  let ended = false;
  const work = followed(never, async (tell: (n: number) => void, signal) => {
    tell(1);
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    ended = true;
    throw signal.reason as Error;
  });
  for await (const _ of work) break;
  assert.ok(ended);
});

test("followed throws what the work throws, after the last progress", async () => {
  const steps: unknown[] = [];
  const reading = async (): Promise<void> => {
    const work = followed(never, async (tell: (n: number) => void) => {
      tell(1);
      throw new Error("broken");
    });
    for await (const step of work) steps.push(step);
  };
  await assert.rejects(reading, /broken/);
  assert.deepEqual(steps, [{ progress: 1 }]);
});

test("inBatches leaves nothing out", async () => {
  async function* numbers(): AsyncGenerator<number> {
    for (let n = 0; n < 5; n += 1) yield n;
  }
  const batches: number[][] = [];
  for await (const batch of inBatches(numbers(), 2)) batches.push(batch);
  assert.deepEqual(batches, [[0, 1], [2, 3], [4]]);
});

test("handOver keeps its writer waiting for the reader, and passes failures on", async () => {
  const { stream, chunks } = handOver();
  const reader = chunks[Symbol.asyncIterator]();
  const written: string[] = [];
  for (const text of ["a", "b"]) stream.write(text, () => written.push(text));
  assert.equal(String((await reader.next()).value), "a");
  assert.deepEqual(written, [], "it is the writer's until the reader comes back");
  assert.equal(String((await reader.next()).value), "b");
  stream.destroy(new Error("cut"));
  await assert.rejects(reader.next(), /cut/);
});
