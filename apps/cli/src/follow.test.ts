import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { MetadataSchema, TaskSchema, WatchEventSchema, type Task } from "@berth/proto";
import { follow, within } from "./follow.ts";
import type { Change, Kind, Watched } from "./kind.ts";
import { taskKind } from "./kinds.ts";
import { persistCall } from "./persist.ts";
import type { Session } from "./session.ts";

const task = (name: string, resourceVersion: bigint): Task =>
  create(TaskSchema, { metadata: create(MetadataSchema, { name, uid: `uid-${name}`, resourceVersion }) });
const watched = (type: string, object: Task | undefined, cursor = ""): Watched<Task> => ({
  event: create(WatchEventSchema, { type, cursor }),
  object,
});
const end = (cursor: string): Watched<Task> => watched("SNAPSHOT_END", undefined, cursor);
const told = ({ event, object }: Change<Task>): string => `${event.type} ${object.metadata!.name}`;

type Script = readonly (Watched<Task> | StatusError)[];

/** Each watch plays the next script; the cursors that were asked for are kept. The last one hangs. */
function scripted(scripts: readonly Script[]): { kind: Kind<Task>; cursors: string[] } {
  const cursors: string[] = [];
  async function* watch(session: Session, _query: unknown, cursor: string): AsyncGenerator<Watched<Task>> {
    const script = scripts[cursors.push(cursor) - 1] ?? [];
    for (const step of script) {
      if (step instanceof StatusError) throw step;
      yield step;
    }
    if (cursors.length >= scripts.length) {
      await new Promise((resolve) => session.signal.addEventListener("abort", resolve, { once: true }));
      session.signal.throwIfAborted();
    }
  }
  return { kind: { ...taskKind, watch }, cursors };
}

/** Answers health checks, after as many refusals as are asked for. */
function session(refusals = 0, signal = new AbortController().signal): { session: Session; notes: string[] } {
  const notes: string[] = [];
  let left = refusals;
  const getHealth = (): Promise<unknown> => {
    left -= 1;
    return left >= 0 ? Promise.reject(new StatusError("UNAVAILABLE", "refused")) : Promise.resolve({});
  };
  const fake = { signal, client: () => ({ getHealth }), note: (text: string) => notes.push(text) };
  return { session: fake as unknown as Session, notes };
}

const QUERY = { namespace: "-", selector: "" };
const down = new StatusError("UNAVAILABLE", "127.0.0.1:1 cannot be reached (gone)", {
  reason: "ENDPOINT_UNREACHABLE",
  details: { endpoint: "127.0.0.1:1", why: "gone" },
});

async function take(count: number, changes: AsyncIterable<Change<Task>>): Promise<string[]> {
  const seen: string[] = [];
  for await (const change of changes) if (seen.push(told(change)) === count) break;
  return seen;
}

void test("follow resumes from the last cursor after a broken connection, and says so once", async () => {
  const { kind, cursors } = scripted([
    [watched("ADDED", task("a", 1n)), end("c1"), watched("MODIFIED", task("a", 2n), "c2"), down],
    [watched("MODIFIED", task("a", 2n), "c2"), watched("ADDED", task("b", 1n), "c3")],
  ]);
  const { session: at, notes } = session(1);
  assert.deepEqual(await take(3, follow(at, kind, QUERY)), ["ADDED a", "MODIFIED a", "ADDED b"]);
  assert.deepEqual(cursors, ["", "c2"]);
  assert.deepEqual(notes, [
    "the connection to the controller broke (gone); trying again",
    "the controller answers again",
  ]);
});

void test("follow lists again when its cursor has expired, and tells only what differs", async () => {
  const { kind, cursors } = scripted([
    [new StatusError("OUT_OF_RANGE", "expired", { reason: "CURSOR_EXPIRED" })],
    [
      watched("ADDED", task("kept", 1n)),
      watched("ADDED", task("changed", 2n)),
      watched("ADDED", task("new", 1n)),
      end("c9"),
    ],
  ]);
  const from = { items: [task("kept", 1n), task("changed", 1n), task("gone", 1n)], cursor: "c1" };
  const seen = await take(3, follow(session().session, kind, QUERY, from));
  assert.deepEqual(seen, ["MODIFIED changed", "ADDED new", "DELETED gone"]);
  assert.deepEqual(cursors, ["c1", ""]);
});

void test("follow takes a watch that ends for a broken one, and passes other errors on", async () => {
  const denied = new StatusError("PERMISSION_DENIED", "no");
  const { kind, cursors } = scripted([[end("c1")], [denied], []]);
  await assert.rejects(take(1, follow(session().session, kind, QUERY)), denied);
  assert.deepEqual(cursors, ["", "c1"]);
});

void test("within says what is pending when the time is over, also while the controller is away", async () => {
  const { session: at } = session(Infinity);
  const waiting = within(
    at,
    50,
    () => "still pending",
    (limited) => persistCall(limited, () => Promise.reject(down)),
  );
  await assert.rejects(waiting, { code: "DEADLINE_EXCEEDED", reason: "WAIT_TIMEOUT", message: "still pending" });
});
