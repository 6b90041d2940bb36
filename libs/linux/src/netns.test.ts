import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { mountsUnder } from "./mountinfo.ts";
import { connectInNetns } from "./netns-socket.ts";
import { createNetns, listNetns, removeNetns } from "./netns.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";

const root = { skip: withoutRoot };

test("createNetns makes a namespace with its loopback up and leaves our threads where they are", root, async (t) => {
  const dir = scratch(t);
  const path = join(dir, "deep", "ns1");
  const threads = (): string[] =>
    readdirSync("/proc/self/task").map((tid) => readlinkSync(`/proc/self/task/${tid}/ns/net`));
  const before = new Set(threads());
  await createNetns(path);
  assert.deepEqual(new Set(threads()), before);
  const inside = (...command: string[]): string =>
    execFileSync("nsenter", [`--net=${path}`, ...command], { encoding: "utf8" });
  assert.notEqual(inside("readlink", "/proc/self/ns/net").trim(), readlinkSync("/proc/self/ns/net"));
  assert.match(inside("ip", "-o", "link"), /^1: lo: <LOOPBACK,UP/);
  assert.equal(inside("ip", "-o", "link").trim().split("\n").length, 1);
  assert.deepEqual(listNetns(join(dir, "deep")), [{ name: "ns1", path, mounted: true }]);
  await assert.rejects(createNetns(path), { code: "ALREADY_EXISTS" });
  removeNetns(path);
  removeNetns(path);
  assert.deepEqual(listNetns(join(dir, "deep")), []);
  assert.deepEqual(mountsUnder(dir), []);
});

test("twenty namespaces at once are made and leave nothing", root, async (t) => {
  const dir = scratch(t);
  const paths = Array.from({ length: 20 }, (_, i) => join(dir, `n${i}`));
  await Promise.all(paths.map((path) => createNetns(path)));
  assert.equal(mountsUnder(dir).length, 20);
  for (const path of paths) removeNetns(path);
  assert.deepEqual([readdirSync(dir), mountsUnder(dir)], [[], []]);
});

test("listNetns shows what a reboot left as not mounted", (t) => {
  const dir = scratch(t);
  writeFileSync(join(dir, "stale"), "");
  assert.deepEqual(listNetns(dir), [{ name: "stale", path: join(dir, "stale"), mounted: false }]);
  assert.deepEqual(listNetns(join(dir, "absent")), []);
  removeNetns(join(dir, "stale"));
  assert.deepEqual(listNetns(dir), []);
});

test(
  "connectInNetns reaches what listens there and only there, and leaves this thread where it is",
  root,
  async (t) => {
    const path = join(scratch(t), "ns");
    await createNetns(path);
    t.after(() => removeNetns(path));
    const script = `const s = require("net").createServer((c) => c.end("inside")).listen(0, "127.0.0.1", () => console.log(s.address().port))`;
    const server = spawn("nsenter", [`--net=${path}`, process.execPath, "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => server.kill("SIGKILL"));
    const [line] = (await once(server.stdout, "data")) as [Buffer];
    const port = Number(line.toString());
    const home = readlinkSync("/proc/thread-self/ns/net");
    const socket = connectInNetns(path, { host: "127.0.0.1", port });
    assert.equal(readlinkSync("/proc/thread-self/ns/net"), home);
    assert.equal(await text(socket), "inside");
    const refused = connectInNetns(path, { host: "127.0.0.1", port: 1 });
    const [error] = (await once(refused, "error")) as [NodeJS.ErrnoException];
    assert.equal(error.code, "ECONNREFUSED");
    assert.throws(() => connectInNetns(`${path}-none`, { host: "127.0.0.1", port }), { code: "NOT_FOUND" });
  },
);
