/** Owners, modes, times and extended attributes of what an archive makes. */
import assert from "node:assert/strict";
import { lstatSync } from "node:fs";
import { test } from "node:test";
import { getXattr, listXattrs, statPath } from "@berth/linux";
import { useArchiveRoot } from "../testing/archive-root.ts";

const lab = useArchiveRoot();
const { apply, refusal, at } = lab;

test("TreeWriter keeps attributes as bytes and leaves out those of the overlay itself", () => {
  const value = Buffer.from([0xff, 0x80, 0, 1]);
  const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
  const warnings = apply([
    {
      name: "f",
      data: "x",
      uid: 3,
      mode: 0o4755,
      pax: {
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.redirect": "/",
        "SCHILY.xattr.trusted.raw": value,
        "SCHILY.xattr.security.capability": capability,
      },
    },
  ]);
  assert.deepEqual(getXattr(at("f"), "security.capability"), capability);
  assert.equal(lstatSync(at("f")).mode & 0o7777, 0o4755);
  assert.equal(getXattr(at("f"), "trusted.overlay.opaque"), undefined);
  assert.equal(warnings.length, 3);
  assert.match(warnings[0]!, /"f": attribute "trusted.overlay.opaque" is left out/);
});

test("TreeWriter gives files what they shall have, whatever a directory gives its new files", () => {
  // A default ACL of user::rwx, group::---, other::---: new files lose what the mode asks for.
  const acl = Buffer.from("0200000001000700ffffffff04000000ffffffff20000000ffffffff", "hex");
  apply([
    { name: "setgid/", type: "5", mode: 0o2775, gid: 77 },
    { name: "setgid/a", mode: 0o644 },
    { name: "setgid/b", mode: 0o644, gid: 77 },
    { name: "setgid/l", type: "2", linkName: "x", gid: 0 },
    { name: "setgid/empty", mode: 0o666 },
    { name: "setgid/empty2", mode: 0o666 },
    { name: "acl/", type: "5" },
    { name: "acl/before", mode: 0o644 },
    { name: "acl/", type: "5", pax: { "SCHILY.xattr.system.posix_acl_default": acl } },
    { name: "acl/f", mode: 0o644 },
    { name: "acl/g", mode: 0o644, data: "x" },
    { name: "acl/h", mode: 0o600 },
  ]);
  const owned = (path: string): unknown[] => [statPath(at(path))!.gid, statPath(at(path))!.mode.toString(8)];
  assert.deepEqual(owned("setgid/a"), [0, "644"]);
  assert.deepEqual(owned("setgid/b"), [77, "644"]);
  assert.equal(statPath(at("setgid/l"))!.gid, 0);
  assert.deepEqual(owned("setgid/empty"), [0, "666"]);
  assert.deepEqual(owned("setgid/empty2"), [0, "666"]);
  for (const name of ["before", "f", "g"]) assert.deepEqual(owned(`acl/${name}`), [0, "644"], name);
  assert.deepEqual(owned("acl/h"), [0, "600"]);
});

test("TreeWriter keeps times and owner of directories below, unless the layer describes them", () => {
  apply([
    { name: "kept/sub/", type: "5", mode: 0o1777, uid: 5, mtime: 111, pax: { "SCHILY.xattr.user.a": "1" } },
    { name: "kept/", type: "5", mtime: 222 },
    { name: "told/", type: "5", mtime: 333, pax: { "SCHILY.xattr.user.a": "1" } },
  ]);
  apply(
    [
      { name: "kept/sub/new", data: "x" },
      { name: "kept/.wh.none", data: "" },
      { name: "told/", type: "5", mtime: 444, mode: 0o700, pax: { "SCHILY.xattr.user.b": "2" } },
      { name: "told/new", data: "x" },
    ],
    true,
  );
  const of = (path: string): unknown[] => [statPath(at(path))!.mode.toString(8), statPath(at(path))!.modified.seconds];
  assert.deepEqual(
    [of("kept"), of("kept/sub"), of("told")],
    [
      ["755", 222],
      ["1777", 111],
      ["700", 444],
    ],
  );
  assert.equal(getXattr(at("kept/sub"), "user.a")?.toString(), "1");
  assert.deepEqual(listXattrs(at("told")), ["user.b"]);
});

test("TreeWriter keeps large owners, odd names and times before 1970", () => {
  apply([
    {
      name: "x",
      pax: { path: "new\nline \x1b[31m", uid: "3000000000", gid: "2097153", mtime: "-1.25" },
      data: "x",
    },
    { name: "b", patch: (b) => b.set([0x80, 0, 0, 0, 0, 0x40, 0, 0], 108) },
  ]);
  const odd = statPath(at("new\nline \x1b[31m"))!;
  assert.deepEqual([odd.uid, odd.gid], [3_000_000_000, 2_097_153]);
  assert.deepEqual(odd.modified, { seconds: -2, nanoseconds: 750_000_000 });
  assert.equal(statPath(at("b"))!.uid, 0x400000);
});

test("TreeWriter says that an attribute no file system takes is the archive's fault", () => {
  assert.match(refusal([{ name: "f", pax: { "SCHILY.xattr.user.x": "v".repeat(65_537) } }]), /65537 bytes/);
});
