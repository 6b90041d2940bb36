import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, openSync, closeSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { mountsUnder, unmountUnder } from "@berth/linux";
import { mountAll, unmountTarget, withTempMount, writableDirectory } from "./mounts.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

function scratch(t: TestContext): string {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), "berth-mounts-")));
  t.after(() => {
    unmountUnder(dir, { detach: true });
    rmSync(dir, { recursive: true });
  });
  return dir;
}

const tmpfs = { type: "tmpfs", source: "tmpfs", options: ["size=1m"] };

test("mountAll undoes all of them when one fails", { skip }, (t) => {
  const dir = scratch(t);
  const bad = { type: "bind", source: join(dir, "absent"), options: ["rbind"] };
  assert.throws(() => mountAll([tmpfs, tmpfs, bad], dir), { reason: "ENOENT" });
  assert.deepEqual(mountsUnder(dir), []);
  mountAll([tmpfs, tmpfs], dir);
  assert.equal(mountsUnder(dir).length, 2);
  unmountTarget(dir);
  unmountTarget(dir);
  assert.deepEqual(mountsUnder(dir), []);
});

test("unmountTarget detaches what is in use", { skip }, (t) => {
  const dir = scratch(t);
  mountAll([tmpfs], dir);
  writeFileSync(join(dir, "f"), "");
  const fd = openSync(join(dir, "f"), "r");
  unmountTarget(dir);
  assert.deepEqual(mountsUnder(dir), []);
  closeSync(fd);
});

test("withTempMount leaves nothing, whether its body succeeds or throws", { skip }, async (t) => {
  const dir = scratch(t);
  assert.equal(await withTempMount([tmpfs], dir, (target) => readdirSync(target).length), 0);
  await assert.rejects(
    withTempMount([tmpfs], dir, () => {
      throw new Error("body");
    }),
    { message: "body" },
  );
  await assert.rejects(
    withTempMount([{ ...tmpfs, type: "nonsense" }], dir, () => {}),
    { reason: "ENODEV" },
  );
  assert.deepEqual([readdirSync(dir), mountsUnder(dir)], [[], []]);
  await assert.rejects(
    withTempMount([tmpfs], join(dir, "absent"), () => {}),
    { code: "NOT_FOUND" },
  );
  mkdirSync(join(dir, "d"));
});

test("writableDirectory knows bind mounts and overlays", () => {
  assert.equal(writableDirectory([{ type: "bind", source: "/a", options: ["rw", "rbind"] }]), "/a");
  assert.equal(writableDirectory([{ type: "bind", source: "/a", options: ["ro", "rbind"] }]), undefined);
  assert.equal(writableDirectory([{ type: "overlay", source: "x", options: ["upperdir=/u", "lowerdir=/l"] }]), "/u");
  assert.equal(writableDirectory([{ type: "zfs", source: "pool/x", options: [] }]), undefined);
  assert.equal(writableDirectory([]), undefined);
});
