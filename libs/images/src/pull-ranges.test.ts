/** Large layers by several streams at once, from servers that are slow, break ranges off, or know none. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { failureOf } from "./testing/failure.ts";
import { serveImage, type Mischief } from "./testing/image-server.ts";
import { startTestHost } from "./testing/host.ts";
import { buildImage } from "./testing/image.ts";
import { buildTar } from "./testing/tar.ts";

const RANGES = { parallelRangeThresholdBytes: 500_000, rangeConcurrency: 4, rangeBytes: 256 * 1024, minIdleShare: 0.1 };
const data = randomBytes(3_000_000);
const image = buildImage({ layers: [{ tar: buildTar([{ name: "big", data }]), stored: "plain" }] });
const blob = image.blobs.at(-1)!;

interface Asked {
  readonly from: number;
  readonly to: number;
  readonly response: ServerResponse;
}

/** Serves the layer slowly; `each` may end an answer by giving false. */
function slowly(asked: Asked[], each: (one: Asked, at: number) => boolean = () => true, ranges = true): Mischief {
  return (seen, response, found) => {
    if (found?.length !== blob.length || seen.method !== "GET") return false;
    const range = ranges ? /^bytes=(\d+)-(\d*)$/.exec(seen.headers.range ?? "") : null;
    const from = Number(range?.[1] ?? 0);
    const to = Math.min(Number(range?.[2] || blob.length - 1) + 1, blob.length);
    const one = { from, to, response };
    asked.push(one);
    const partial = range === null ? {} : { "content-range": `bytes ${from}-${to - 1}/${blob.length}` };
    response.writeHead(range === null ? 200 : 206, { "content-length": String(to - from), ...partial });
    void (async () => {
      for (let at = from; at < to && !response.destroyed; at += 64 * 1024) {
        if (!each(one, at)) return response.destroy();
        response.write(blob.subarray(at, Math.min(at + 64 * 1024, to)));
        // The client has all of it before an end that is delayed, and may ask for more.
        if (at + 64 * 1024 < to) await delay(3);
      }
      return response.end();
    })();
    return true;
  };
}

async function setUp(mischief: Mischief) {
  const server = await serveImage(image, mischief);
  const hosts = [{ host: server.host, plainHttp: true }];
  const host = await startTestHost({ hosts, config: { ranges: RANGES }, registry: { maxAttempts: 1 } });
  return {
    server,
    host,
    pull: () => host.images.pull({ namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" }),
    async [Symbol.asyncDispose]() {
      await host[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Most answers that were under way at once, of those asked for with an end. */
function overlapping(asked: readonly Asked[]): Asked[] {
  return asked.filter(({ to, from }) => to - from <= RANGES.rangeBytes);
}

test("pull fetches a large layer by several ranges when one stream leaves it waiting", async () => {
  const asked: Asked[] = [];
  let open = 0;
  let most = 0;
  await using s = await setUp((seen, response, found) => {
    if (!slowly(asked)(seen, response, found)) return false;
    most = Math.max(most, (open += 1));
    // What has been sent is over, though its connection may be told of later than the next request.
    let sending = true;
    const over = (): void => {
      if (sending) open -= 1;
      sending = false;
    };
    response.once("finish", over).once("close", over);
    return true;
  });
  const { chainId } = await s.pull();
  assert.ok(overlapping(asked).length >= 8, `${asked.length} requests`);
  assert.ok(most >= 3 && most <= RANGES.rangeConcurrency + 1, `${most} at once`);
  const ranges = overlapping(asked).map(({ from }) => from);
  assert.equal(new Set(ranges).size, ranges.length, "no byte is asked for twice");
  await s.host.look("shop", "overlayfs", chainId, (root) => assert.ok(readFileSync(join(root, "big")).equals(data)));
});

test("pull stays with one stream where the server knows no ranges, or where it is told to", async () => {
  const asked: Asked[] = [];
  await using s = await setUp(slowly(asked, undefined, false));
  await s.pull();
  assert.ok(asked.length <= 2 + RANGES.rangeConcurrency, "one, the ranges it tried, and one for the rest");
  const single: Asked[] = [];
  const server = await serveImage(image, slowly(single));
  const config = { ranges: { ...RANGES, rangeConcurrency: 1 } };
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }], config });
  await host.images.pull({ namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" });
  await server[Symbol.asyncDispose]();
  assert.equal(single.length, 1);
});

test("pull resumes when ranges break off; one that stays broken leaves what came in order, without holes", async () => {
  const asked: Asked[] = [];
  let broken = 0;
  await using s = await setUp(slowly(asked, ({ from }, at) => from < 1_500_000 || at === from || (broken += 1) > 3));
  await s.pull();
  assert.ok(broken > 3);

  const end = 1_600_000;
  await using t = await setUp(slowly([], (_, at) => at < end));
  const error = await failureOf(t.pull());
  assert.equal(error.reason, "LAYER_TRUNCATED");
  const [kept] = await t.host.content.listStatuses("shop");
  assert.ok(kept!.offsetBytes >= end - RANGES.rangeBytes && kept!.offsetBytes < end + 64 * 1024);
  const again: Asked[] = [];
  t.server.mischief(slowly(again));
  await t.pull();
  assert.equal(again[0]!.from, kept!.offsetBytes, "and is resumed there");
});
