import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { diskInfo } from "./disk.ts";
import { hasErrno } from "./errno.ts";
import { unmount } from "./mount.ts";
import { fsyncDirectory, syncfs, syncfsBlocking } from "./sync.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";

test("syncfs succeeds on a directory and reports a bad descriptor in both forms", async (t) => {
  const dir = scratch(t, withoutRoot ? "disk" : "tmpfs");
  const fd = openSync(dir, "r");
  await syncfs(fd);
  syncfsBlocking(fd);
  closeSync(fd);
  const failing = syncfs(1_000_000);
  assert.throws(() => diskInfo(join(dir, "absent")), { reason: "ENOENT" }, "another errno in between");
  await assert.rejects(failing, { reason: "EBADF" });
  assert.throws(() => syncfsBlocking(1_000_000), { reason: "EBADF" });
});

test("fsyncDirectory names a directory that is not there", async (t) => {
  const dir = scratch(t);
  await fsyncDirectory(dir);
  await assert.rejects(fsyncDirectory(join(dir, "no")), { code: "NOT_FOUND", reason: "ENOENT" });
});

test("diskInfo gives type, size and the flags of the mount", { skip: withoutRoot }, (t) => {
  const info = diskInfo(scratch(t, "tmpfs"));
  assert.equal(info.fsType, "tmpfs");
  assert.ok(info.totalBytes >= info.freeBytes && info.freeBytes >= info.availableBytes && info.availableBytes > 0);
  assert.ok(info.totalInodes > 0);
  assert.equal(diskInfo("/proc").fsType, "proc");
});

test("the library works in several threads at once, each with its own errno and buffers", async (t) => {
  const dir = scratch(t);
  const body = `
    import { parentPort, workerData } from "node:worker_threads";
    const linux = await import(workerData.url);
    const root = linux.openDirectory(workerData.dir);
    linux.mkdirAt(root, workerData.name, 0o755);
    const own = linux.openBeneath(root, workerData.name, 0o200000);
    for (let i = 0; i < 2000; i += 1) {
      linux.symlinkAt(workerData.name + i, own, "l" + i);
      if (linux.readlinkAt(own, "l" + i).toString() !== workerData.name + i) throw new Error("foreign bytes");
      try { linux.readlinkAt(own, "absent"); } catch (error) { if (error.reason !== "ENOENT") throw error; }
      try { linux.readlinkAt(root, workerData.name); } catch (error) { if (error.reason !== "EINVAL") throw error; }
    }
    parentPort.postMessage("done");`;
  const url = new URL("./index.ts", import.meta.url).href;
  const workers = ["a", "b", "c"].map(
    (name) =>
      new Worker(new URL(`data:text/javascript,${encodeURIComponent(body)}`), { workerData: { url, dir, name } }),
  );
  for (let i = 0; i < 200; i += 1) {
    try {
      unmount(dir);
      assert.fail("nothing was mounted");
    } catch (error) {
      assert.ok(hasErrno(error, "EINVAL"), String(error));
    }
  }
  const answers = await Promise.all(workers.map((worker) => once(worker, "message")));
  assert.deepEqual(answers, [["done"], ["done"], ["done"]]);
  await Promise.all(workers.map((worker) => worker.terminate()));
});
