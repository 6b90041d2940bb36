import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, fstatSync } from "node:fs";
import { test } from "node:test";
import { ReadStream } from "node:tty";
import { openPty, setWindowSize, windowSize } from "./pty.ts";

test("openPty gives a terminal that a child writes to and its maker reads", async () => {
  const { masterFd, slaveFd, path } = openPty({ columns: 100, rows: 40 });
  assert.match(path, /^\/dev\/pts\/\d+$/);
  const child = spawn("setsid", ["--ctty", "sh", "-c", "test -t 0 && stty size && printf 'caf\\351'"], {
    stdio: [slaveFd, slaveFd, slaveFd],
  });
  closeSync(slaveFd);
  const master = new ReadStream(masterFd);
  const chunks: Buffer[] = [];
  master.on("data", (chunk: Buffer) => chunks.push(chunk));
  const failed = once(master, "error");
  assert.deepEqual(await once(child, "exit"), [0, null]);
  const [error] = (await failed) as [NodeJS.ErrnoException];
  assert.equal(error.code, "EIO", "the end of a terminal");
  assert.equal(Buffer.concat(chunks).toString("latin1"), "40 100\r\ncaf\u00e9");
  master.destroy();
});

test("setWindowSize is seen from the other end", () => {
  const { masterFd, slaveFd } = openPty();
  setWindowSize(masterFd, { columns: 7, rows: 65_535 });
  assert.deepEqual(windowSize(slaveFd), { columns: 7, rows: 65_535 });
  closeSync(masterFd);
  closeSync(slaveFd);
  assert.throws(() => fstatSync(masterFd), { code: "EBADF" });
  assert.throws(() => windowSize(slaveFd), { reason: "EBADF" });
});
