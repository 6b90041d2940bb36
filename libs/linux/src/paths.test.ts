import assert from "node:assert/strict";
import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { statAt, statFd, statPath } from "./file-info.ts";
import {
  chmodAt,
  chownAt,
  linkAt,
  linkFdAt,
  mkdirAt,
  mknodAt,
  O_PATH,
  O_TMPFILE,
  openAt,
  openBeneath,
  openDirectory,
  readlinkAt,
  renameAt,
  Resolve,
  setTimes,
  setTimesAt,
  symlinkAt,
  tryCreateAt,
  tryLinkAt,
  tryOpenBeneath,
  unlinkAt,
} from "./paths.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";
import { isWhiteout, makeWhiteoutAt } from "./whiteout.ts";

const root = { skip: withoutRoot };
const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY } = constants;

/** A root directory with a secret beside it; its fd is closed with the test. */
function cell(t: TestContext): { dir: string; inside: string; secret: string; fd: number } {
  const dir = scratch(t);
  const inside = join(dir, "root");
  mkdirSync(join(inside, "sub"), { recursive: true });
  const secret = join(dir, "secret");
  writeFileSync(secret, "outside");
  const fd = openDirectory(inside);
  t.after(() => closeSync(fd));
  return { dir, inside, secret, fd };
}

function own(t: TestContext, fd: number): number {
  t.after(() => closeSync(fd));
  return fd;
}

test("openBeneath refuses every way out under Resolve.beneath", (t) => {
  const { inside, secret, fd } = cell(t);
  symlinkSync("/", join(inside, "slash"));
  symlinkSync("../secret", join(inside, "up"));
  symlinkSync(secret, join(inside, "absolute"));
  symlinkSync("sub/../../secret", join(inside, "winding"));
  const paths = ["../secret", secret, "slash/etc/passwd", "up", "absolute", "winding", "sub/../../secret"];
  for (const path of paths) {
    assert.throws(() => openBeneath(fd, path, O_RDONLY, 0, Resolve.beneath), { reason: "EXDEV" }, path);
  }
});

test("openBeneath treats the root as / by default, so every way out ends inside", (t) => {
  const { dir, inside, secret, fd } = cell(t);
  symlinkSync(secret, join(inside, "absolute"));
  symlinkSync("../../../../../../etc", join(inside, "sub", "up"));
  mkdirSync(join(inside, "etc"));
  writeFileSync(join(inside, "etc", "passwd"), "inside");
  assert.throws(() => openBeneath(fd, "absolute", O_RDONLY), { reason: "ENOENT" });
  assert.equal(tryOpenBeneath(fd, `../../..${dir}/secret`, O_RDONLY), undefined);
  for (const path of ["sub/up/passwd", "/etc/passwd", "../../etc/passwd"]) {
    assert.equal(readFileSync(own(t, openBeneath(fd, path, O_RDONLY)), "utf8"), "inside", path);
  }
  // A file made through an escaping path comes to lie inside as well.
  closeSync(openBeneath(fd, "sub/up/made", O_WRONLY | O_CREAT | O_EXCL, 0o600));
  assert.ok(statPath(join(inside, "etc", "made")));
});

test("openBeneath never follows magic links, and no links at all on request", (t) => {
  const { inside, fd } = cell(t);
  const proc = own(t, openDirectory(`/proc/${process.pid}`));
  assert.throws(() => openBeneath(proc, "cwd", O_RDONLY, 0, 0), { reason: "ELOOP" });
  assert.throws(() => openBeneath(proc, `fd/${fd}/sub`, O_RDONLY, 0, 0), { reason: "ELOOP" });
  symlinkSync("sub", join(inside, "link"));
  closeSync(openBeneath(fd, "link", O_RDONLY | O_DIRECTORY));
  assert.throws(() => openBeneath(fd, "link", O_RDONLY, 0, Resolve.inRoot | Resolve.noSymlinks), { reason: "ELOOP" });
});

test("names of several components, dots and NULs are refused before the kernel sees them", (t) => {
  const { fd } = cell(t);
  for (const name of ["", ".", "..", "a/b", "/a", "../x", Buffer.from(".."), Buffer.from("a/b"), Buffer.alloc(0)]) {
    assert.throws(() => mkdirAt(fd, name, 0o755), { code: "INVALID_ARGUMENT", reason: "EINVAL" }, String(name));
    assert.throws(() => unlinkAt(fd, name), { reason: "EINVAL" });
    assert.throws(() => symlinkAt("x", fd, name), { reason: "EINVAL" });
    assert.throws(() => openAt(fd, name, O_RDONLY), { reason: "EINVAL" });
  }
  assert.throws(() => mkdirAt(fd, "a\0b", 0o755), { reason: "EINVAL" });
  assert.throws(() => symlinkAt("x\0y", fd, "l"), { reason: "EINVAL" });
});

test("entries of every type are made, changed and seen without following links", root, (t) => {
  const { dir, inside, secret, fd } = cell(t);
  assert.equal(mkdirAt(fd, "d", 0o755), true);
  assert.equal(mkdirAt(fd, "d", 0o755), false);
  symlinkAt(secret, fd, "l");
  mknodAt(fd, "null", 0o020000, 1, 3);
  mknodAt(fd, "big", 0o060000, 4095, 1_048_575);
  mknodAt(fd, "pipe", 0o010000);
  makeWhiteoutAt(fd, "gone");
  closeSync(openAt(fd, "f", O_WRONLY | O_CREAT | O_EXCL, 0o600));
  linkAt(fd, "f", fd, "hard");
  linkAt(fd, "l", fd, "hard-link-of-link");

  chownAt(fd, "l", 1234, 5678);
  setTimesAt(fd, "l", { seconds: 1, nanoseconds: 2 }, { seconds: -3, nanoseconds: 999_999_999 });
  const link = statAt(fd, "l")!;
  assert.deepEqual([link.type, link.uid, link.gid, link.links], ["symlink", 1234, 5678, 2]);
  assert.deepEqual(link.modified, { seconds: -3, nanoseconds: 999_999_999 });
  assert.equal(statPath(secret)!.uid, 0, "the target is untouched");
  assert.throws(() => chmodAt(fd, "l", 0o777), { reason: "EOPNOTSUPP" });
  assert.throws(() => openAt(fd, "l", O_RDONLY), { reason: "ELOOP" });

  chmodAt(fd, "f", 0o6751);
  assert.deepEqual([statAt(fd, "f")!.mode, statAt(fd, "hard")!.links], [0o6751, 2]);
  assert.equal(readlinkAt(fd, "l").toString(), secret);
  assert.throws(() => readlinkAt(fd, "f"), { reason: "EINVAL" });
  const { type, rdevMajor, rdevMinor } = statAt(fd, "big")!;
  assert.deepEqual([type, rdevMajor, rdevMinor], ["block", 4095, 1_048_575]);
  assert.deepEqual([statAt(fd, "null")!.rdevMajor, statAt(fd, "pipe")!.type], [1, "fifo"]);
  assert.ok(isWhiteout(statAt(fd, "gone")!));
  assert.equal(statAt(fd, "absent"), undefined);
  assert.equal(lstatSync(join(inside, "l"), { bigint: true }).ino, link.inode);
  assert.equal(unlinkAt(fd, "l"), true);
  assert.equal(unlinkAt(fd, "l"), false);
  assert.throws(() => unlinkAt(fd, "d"), { reason: "EISDIR" });
  assert.equal(unlinkAt(fd, "d", { directory: true }), true);
  assert.ok(statPath(join(dir, "secret")));
});

test("renameAt replaces, or refuses to with noReplace", (t) => {
  const { inside, fd } = cell(t);
  writeFileSync(join(inside, "a"), "a");
  writeFileSync(join(inside, "b"), "b");
  assert.throws(() => renameAt(fd, "a", fd, "b", { noReplace: true }), { code: "ALREADY_EXISTS" });
  renameAt(fd, "a", fd, "b");
  assert.equal(readFileSync(join(inside, "b"), "utf8"), "a");
});

test("linkFdAt names an O_PATH file and an unnamed one", root, (t) => {
  const { inside, fd } = cell(t);
  linkFdAt(own(t, openBeneath(fd, "sub", O_TMPFILE | O_RDWR, 0o640)), fd, "unnamed");
  writeFileSync(join(inside, "f"), "f");
  linkFdAt(own(t, openBeneath(fd, "f", O_PATH)), fd, "g");
  assert.equal(statAt(fd, "g")!.links, 2);
  assert.equal(statAt(fd, "unnamed")!.links, 1);
});

test("setTimes and statFd work on open files to the nanosecond", (t) => {
  const { fd } = cell(t);
  const file = own(t, openAt(fd, "f", O_RDWR | O_CREAT, 0o644));
  setTimes(file, { seconds: 10, nanoseconds: 1 }, { seconds: 4_000_000_000, nanoseconds: 123_456_789 });
  assert.deepEqual(statFd(file).modified, { seconds: 4_000_000_000, nanoseconds: 123_456_789 });
  assert.deepEqual(statFd(file).accessed, { seconds: 10, nanoseconds: 1 });
});

test("paths may be bytes that are not UTF-8", (t) => {
  const { inside, fd } = cell(t);
  const name = Buffer.from([0x61, 0xff, 0xfe]);
  assert.equal(mkdirAt(fd, name, 0o755), true);
  symlinkAt(Buffer.from([0xe9]), fd, "l");
  assert.deepEqual([...readlinkAt(fd, "l")], [0xe9]);
  assert.equal(lstatSync(Buffer.concat([Buffer.from(`${inside}/`), name])).isDirectory(), true);
  closeSync(openBeneath(fd, name, O_RDONLY | O_DIRECTORY));
});

test("a hard link to the outside does not arise from a link followed at the source", root, (t) => {
  const { dir, inside, secret, fd } = cell(t);
  symlinkSync(secret, join(inside, "s"));
  linkAt(fd, "s", fd, "t");
  assert.equal(statAt(fd, "t")!.type, "symlink");
  linkSync(secret, join(dir, "other"));
  assert.equal(statPath(secret)!.links, 2);
});

test("tryCreateAt and tryLinkAt say by their result that a name is taken, and follow no link", root, (t) => {
  const { secret, inside, fd } = cell(t);
  symlinkSync(secret, join(inside, "s"));
  const made = own(t, tryCreateAt(fd, "f", O_WRONLY, 0o640)!);
  assert.equal(statFd(made).mode, 0o640);
  assert.equal(tryCreateAt(fd, "f", O_WRONLY, 0o640), undefined);
  assert.equal(tryCreateAt(fd, "s", O_WRONLY, 0o640), undefined);
  assert.throws(() => tryCreateAt(fd, "a/b", O_WRONLY, 0o640), { reason: "EINVAL" });
  assert.equal(tryLinkAt(fd, "f", fd, "g"), true);
  assert.equal(statAt(fd, "g")!.inode, statFd(made).inode);
  for (const [from, to] of [
    ["f", "s"],
    ["none", "h"],
    ["sub", "h"],
  ] as const)
    assert.equal(tryLinkAt(fd, from, fd, to), false);
  assert.equal(statAt(fd, "h"), undefined);
  assert.equal(tryLinkAt(fd, "s", fd, "h"), true);
  assert.equal(statAt(fd, "h")!.type, "symlink");
});
