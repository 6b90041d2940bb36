import assert from "node:assert/strict";
import { test } from "node:test";
import { joinProjectCall, limitProjectCall, projectBytes, projectQuotaProblem, usedBytesOf } from "./project-quota.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";

test("joinProjectCall sets the project and its inheritance, and keeps what else the directory has", () => {
  const current = Buffer.alloc(28);
  current.writeUInt32LE(0x8000_0010, 0); // HASATTR, APPEND
  current.writeUInt32LE(65_536, 4); // extent size hint
  const { call, request, argument } = joinProjectCall(current, 0x4200_0007);
  // _IOW('X', 32, struct fsxattr)
  assert.deepEqual([call, request], ["ioctl", (1 << 30) | (28 << 16) | (0x58 << 8) | 32]);
  const words = Array.from({ length: 7 }, (_, i) => argument.readUInt32LE(i * 4));
  assert.deepEqual(words, [0x8000_0210, 65_536, 0, 0x4200_0007, 0, 0, 0]);
  assert.equal(current.readUInt32LE(12), 0, "the caller's buffer is its own");
});

test("limitProjectCall is Q_SETQUOTA of a project with both block limits, in KiB", () => {
  const { call, request, projectId, argument } = limitProjectCall(7, 10 * 1024 * 1024 + 1);
  assert.deepEqual([call, request, projectId, argument.length], ["quotactl_fd", 0x8000_0802, 7, 72]);
  assert.deepEqual([argument.readBigUInt64LE(0), argument.readBigUInt64LE(8)], [10_241n, 10_241n]);
  assert.equal(argument.readUInt32LE(64), 1, "only the block limits are valid");
  assert.equal(
    argument.subarray(16, 64).every((byte) => byte === 0),
    true,
  );
  assert.equal(limitProjectCall(7, 0).argument.readBigUInt64LE(0), 0n, "0 lifts it");
  assert.equal(limitProjectCall(7, 2 ** 45).argument.readBigUInt64LE(0), 2n ** 35n);
});

test("projectQuotaProblem says why a directory cannot be bounded", { skip: withoutRoot }, (t) => {
  assert.match(projectQuotaProblem(scratch(t, "tmpfs")) ?? "", /no projects|prjquota|kernel has no quotas/);
});

test(
  "projectBytes is undefined for a directory of no project; usedBytesOf reads bytes, not blocks",
  { skip: withoutRoot },
  (t) => {
    assert.equal(projectBytes(scratch(t, "tmpfs")), undefined);
    const reply = Buffer.alloc(72);
    reply.writeBigUInt64LE(10_240n, 0);
    reply.writeBigUInt64LE(4_321n, 16);
    assert.equal(usedBytesOf(reply), 4_321);
  },
);
