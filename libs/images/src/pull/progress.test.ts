import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "@berth/base";
import { MEDIA_TYPES, type Descriptor } from "@berth/model";
import type { PullProgress } from "../images.ts";
import { ProgressTracker } from "./progress.ts";

const layer = (name: string, size: number): Descriptor => ({
  mediaType: MEDIA_TYPES.ociLayer,
  digest: digestOf(name),
  size,
});

function tracker() {
  const told: PullProgress[] = [];
  const clock = { ms: 0 };
  const progress = new ProgressTracker(
    "shop",
    "app",
    (one) => told.push(one),
    () => clock.ms,
  );
  return { told, clock, progress };
}

test("ProgressTracker counts kept bytes at once, tells rate and time left, and never goes back", () => {
  const { told, clock, progress } = tracker();
  progress.phase("resolving");
  progress.start([layer("a", 1000), layer("b", 3000)], [400]);
  assert.deepEqual([told.at(-1)!.offsetBytes, told.at(-1)!.rateBytesPerSecond], [400, 0]);
  progress.state(0, "downloading");
  progress.state(1, "downloading");
  for (let step = 1; step <= 10; step += 1) {
    clock.ms += 200;
    progress.offset(1, step * 200);
  }
  const { rateBytesPerSecond, etaMs, offsetBytes, phase } = told.at(-1)!;
  assert.deepEqual([rateBytesPerSecond, offsetBytes, phase], [1000, 2400, "downloading"]);
  assert.equal(etaMs, 1600);
  clock.ms += 200;
  progress.offset(1, 100);
  progress.state(1, "waiting");
  assert.equal(progress.current().offsetBytes, 2400, "a transfer that starts over does not take it back");
  assert.equal(progress.current().layers[1]!.state, "downloading");
});

test("ProgressTracker is unpacking when all bytes are here, and tells the end", () => {
  const { told, clock, progress } = tracker();
  progress.start([layer("a", 10), layer("b", 20)]);
  progress.state(0, "exists");
  assert.equal(progress.current().phase, "downloading");
  clock.ms += 200;
  progress.offset(1, 20);
  assert.equal(told.at(-1)!.phase, "unpacking");
  progress.state(1, "done");
  progress.state(0, "downloading");
  progress.phase("downloading");
  progress.phase("done");
  assert.deepEqual(
    told.at(-1)!.layers.map(({ state }) => state),
    ["exists", "done"],
  );
  assert.equal(told.at(-1)!.phase, "done");
});
