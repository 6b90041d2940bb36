import assert from "node:assert/strict";
import { closeSync, openSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openDirectory, pathAt } from "./paths.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";
import { isOpaque, setOpaque } from "./whiteout.ts";
import { getXattr, listXattrs, removeXattr, setXattr } from "./xattr.ts";

const root = { skip: withoutRoot };

test("setXattr keeps every byte, by path, by descriptor and relative to a directory", root, (t) => {
  const dir = scratch(t);
  const file = join(dir, "f");
  writeFileSync(file, "");
  const value = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  const fd = openSync(file, "r");
  const dirFd = openDirectory(dir);
  setXattr(file, "trusted.a", value);
  setXattr(fd, "user.b", Buffer.alloc(0));
  setXattr(pathAt(dirFd, "f"), "security.capability", Buffer.from("0100000200200000000000000000000000000000", "hex"));
  assert.deepEqual(getXattr(fd, "trusted.a"), value);
  assert.deepEqual(getXattr(pathAt(dirFd, Buffer.from("f")), "user.b"), Buffer.alloc(0));
  assert.deepEqual(listXattrs(file), ["security.capability", "trusted.a", "user.b"]);
  assert.deepEqual(listXattrs(fd), listXattrs(file));
  assert.equal(removeXattr(file, "user.b"), true);
  assert.equal(removeXattr(fd, "user.b"), false);
  assert.equal(getXattr(file, "user.b"), undefined);
  closeSync(fd);
  closeSync(dirFd);
});

test("setXattr on a symbolic link changes the link", root, (t) => {
  const dir = scratch(t);
  writeFileSync(join(dir, "f"), "");
  symlinkSync("f", join(dir, "l"));
  setXattr(join(dir, "l"), "trusted.x", Buffer.from("link"));
  assert.equal(getXattr(join(dir, "f"), "trusted.x"), undefined);
  assert.equal(getXattr(join(dir, "l"), "trusted.x")?.toString(), "link");
});

test("xattr errors name the path and the attribute", (t) => {
  const dir = scratch(t);
  assert.throws(() => getXattr(join(dir, "no"), "user.x"), {
    code: "NOT_FOUND",
    message: `getxattr "${join(dir, "no")}" user.x: ENOENT`,
  });
  assert.throws(() => setXattr(dir, "bogus.x", Buffer.from("1")), { reason: "EOPNOTSUPP" });
});

test("setOpaque marks a directory as overlayfs reads it", root, (t) => {
  const dir = scratch(t);
  assert.equal(isOpaque(dir), false);
  setOpaque(dir);
  assert.equal(isOpaque(dir), true);
  assert.equal(getXattr(dir, "trusted.overlay.opaque")?.toString(), "y");
});
