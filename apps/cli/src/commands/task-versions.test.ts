import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { TaskSchema, WatchEventSchema, type Task } from "@berth/proto";
import type { Change } from "../kind.ts";
import { TaskVersions } from "./task-versions.ts";

const task = (name: string, attempt: number): Task => create(TaskSchema, { metadata: { name }, status: { attempt } });
const change = (type: string, object: Task): Change<Task> => ({ event: create(WatchEventSchema, { type }), object });

void test("TaskVersions.of tells each who waits of its own task only, the newest of what it missed, and ends when it is gone", async () => {
  const versions = new TaskVersions(new AbortController().signal, [task("a", 1), task("b", 1)]);
  const [a, other] = [versions.of("a"), versions.of("a")];
  const attempt = async (from: AsyncGenerator<Task>): Promise<number | undefined> => {
    const { done, value } = await from.next();
    return done === true ? undefined : value.status!.attempt;
  };
  assert.equal(await attempt(a), 1);
  const next = attempt(a);
  versions.saw(change("MODIFIED", task("b", 2)));
  versions.saw(change("MODIFIED", task("a", 2)));
  assert.equal(await next, 2);
  versions.saw(change("MODIFIED", task("a", 3)));
  versions.saw(change("MODIFIED", task("a", 4)));
  assert.equal(await attempt(a), 4);
  assert.equal(await attempt(other), 4);
  const last = attempt(a);
  versions.saw(change("DELETED", task("a", 4)));
  assert.deepEqual([await last, await attempt(other), await attempt(versions.of("nobody"))], [undefined, undefined, undefined]); // prettier-ignore
});

void test("TaskVersions.of ends with its signal", async () => {
  const ending = new AbortController();
  const waiting = new TaskVersions(ending.signal, [task("a", 1)]).of("a");
  await waiting.next();
  const next = waiting.next();
  ending.abort();
  await assert.rejects(next, /cancelled/);
});
