import assert from "node:assert/strict";
import { closeSync, readSync, writeSync } from "node:fs";
import { test } from "node:test";
import { openPipe } from "./index.ts";

test("openPipe makes a pipe that takes its whole capacity without a reader", () => {
  const { readFd, writeFd } = openPipe(256 * 1024);
  try {
    const bytes = Buffer.alloc(256 * 1024, "x");
    assert.equal(writeSync(writeFd, bytes), bytes.length); // the usual 64 KiB would block here for ever
    assert.equal(readSync(readFd, Buffer.alloc(bytes.length)), bytes.length);
  } finally {
    closeSync(readFd);
    closeSync(writeFd);
  }
});

test("openPipe makes a pipe also of a capacity that the kernel refuses", () => {
  const { readFd, writeFd } = openPipe(2 ** 31 - 1);
  try {
    assert.equal(writeSync(writeFd, "still a pipe"), 12);
  } finally {
    closeSync(readFd);
    closeSync(writeFd);
  }
});
