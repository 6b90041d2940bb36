import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isMountPoint, mounts, mountsUnder, parseMountInfo } from "./mountinfo.ts";
import { mount, unmount, unmountAll, unmountUnder } from "./mount.ts";
import { MS, parseMountOptions } from "./mount-options.ts";
import { mountByConfig, mountByDescriptors, splitOverlayOptions } from "./overlay.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";

const root = { skip: withoutRoot };

test("parseMountOptions lets later options win and passes unknown ones on as data", () => {
  const parsed = parseMountOptions(["ro", "nosuid", "rw", "lowerdir=/a:/b", "rslave", "constructor"]);
  assert.equal(parsed.flags, MS.nosuid);
  assert.equal(parsed.cleared, MS.rdonly);
  assert.deepEqual(parsed.propagation, [MS.slave | MS.rec]);
  assert.deepEqual(parsed.data, ["lowerdir=/a:/b", "constructor"]);
});

test("parseMountInfo decodes octal escapes and optional fields", () => {
  const line = String.raw`36 35 98:0 /a\040b /mnt\134x rw,noatime shared:3 master:1 - ext4 /dev/my\011disk rw,errors=continue`;
  const [info] = parseMountInfo(`${line}\nnot a line\n`);
  assert.deepEqual(info, {
    id: 36,
    parentId: 35,
    device: "98:0",
    root: "/a b",
    target: "/mnt\\x",
    options: ["rw", "noatime"],
    propagation: ["shared:3", "master:1"],
    fsType: "ext4",
    source: "/dev/my\tdisk",
    superOptions: ["rw", "errors=continue"],
  });
});

test("mount makes a read-only bind mount in two steps and keeps the flags of its source", root, (t) => {
  const dir = scratch(t);
  const [source, target] = [join(dir, "source"), join(dir, "tar get")];
  mkdirSync(source);
  mkdirSync(target);
  mount({ type: "tmpfs", source: "tmpfs", target: source, options: ["nosuid", "nodev", "size=1m"] });
  writeFileSync(join(source, "file"), "x");
  mount({ type: "bind", source, target, options: ["rbind", "ro", "rprivate"] });
  assert.throws(() => writeFileSync(join(target, "file"), "y"), { code: "EROFS" });
  const info = mounts().find((entry) => entry.target === target)!;
  for (const flag of ["ro", "nosuid", "nodev"]) assert.ok(info.options.includes(flag), flag);
  assert.deepEqual(info.propagation, []);
  mount({ type: "", source: "", target, options: ["remount", "bind", "rw"] });
  writeFileSync(join(target, "file"), "y");
  assert.equal(unmountAll(target), 1);
});

test("mount undoes what it did when a later step fails", root, (t) => {
  const dir = scratch(t);
  mkdirSync(join(dir, "a"));
  // The kernel refuses two propagation types in one call: the second step fails with EINVAL.
  assert.throws(
    () => mount({ type: "tmpfs", source: "tmpfs", target: join(dir, "a"), options: ["private", "shared", "bogus=1"] }),
    { reason: "EINVAL" },
  );
  assert.equal(isMountPoint(join(dir, "a")), false);
});

test("mount names the call, the path and the errno", root, (t) => {
  const dir = scratch(t);
  assert.throws(() => mount({ type: "bind", source: join(dir, "no"), target: dir, options: ["bind"] }), {
    name: "StatusError",
    code: "NOT_FOUND",
    reason: "ENOENT",
    message: `mount bind "${join(dir, "no")}" on "${dir}": ENOENT`,
  });
});

test("unmount refuses to follow a link; unmountAll takes a whole stack and succeeds on nothing", root, (t) => {
  const dir = scratch(t);
  const target = join(dir, "a");
  mkdirSync(target);
  for (let i = 0; i < 3; i += 1) mount({ type: "tmpfs", source: "tmpfs", target, options: [] });
  symlinkSync(target, join(dir, "link"));
  assert.throws(() => unmount(join(dir, "link")), { reason: "EINVAL" });
  assert.equal(unmountAll(target), 3);
  assert.equal(unmountAll(target), 0);
  assert.equal(unmountAll(join(dir, "absent")), 0);
});

test("unmount says EBUSY while a file is open, and detach takes it away all the same", root, (t) => {
  const dir = scratch(t);
  mount({ type: "tmpfs", source: "tmpfs", target: dir, options: [] });
  mkdirSync(join(dir, "sub"));
  mount({ type: "tmpfs", source: "tmpfs", target: join(dir, "sub"), options: [] });
  assert.throws(() => unmount(dir), { code: "UNAVAILABLE", reason: "EBUSY" });
  assert.equal(mountsUnder(dir).length, 2);
  assert.equal(unmountUnder(dir), 2);
  assert.deepEqual(mountsUnder(dir), []);
});

test("mountsUnder does not take a sibling with the same beginning", root, (t) => {
  const dir = scratch(t);
  mkdirSync(join(dir, "a"));
  mkdirSync(join(dir, "ab"));
  mount({ type: "tmpfs", source: "tmpfs", target: join(dir, "ab"), options: [] });
  assert.deepEqual(mountsUnder(join(dir, "a")), []);
});

test("splitOverlayOptions undoes the escapes of lowerdir", () => {
  const split = splitOverlayOptions(["index=off", String.raw`lowerdir=/a\:b:/c\\d`, "upperdir=/u", "volatile"]);
  assert.deepEqual(split.lower, ["/a:b", "/c\\d"]);
  assert.deepEqual(split.rest, [
    ["index", "off"],
    ["upperdir", "/u"],
    ["volatile", undefined],
  ]);
});

/** `count` one-file layers whose path is long enough for all of them not to fit in a page. */
function layers(base: string, count: number): { lower: string[]; upper: string; work: string; merged: string } {
  const lower = Array.from({ length: count }, (_, i) => join(base, "a-directory-with-quite-a-long-name", `${i}`, "fs"));
  const [upper, work, merged] = ["upper", "work", "merged"].map((name) => join(base, name)) as [string, string, string];
  for (const path of [...lower, upper, work, merged]) mkdirSync(path, { recursive: true });
  for (const [i, path] of lower.entries()) {
    writeFileSync(join(path, `file-${i}`), `${i}`);
    writeFileSync(join(path, "same"), `${i}`);
  }
  return { lower, upper, work, merged };
}

test("mount makes an overlay of 120 layers, over a page of options", root, (t) => {
  const dir = scratch(t, "tmpfs");
  const { lower, upper, work, merged } = layers(dir, 120);
  const data = [`lowerdir=${lower.join(":")}`, `upperdir=${upper}`, `workdir=${work}`, "index=off"];
  assert.ok(data.join(",").length > 4096);
  mount({ type: "overlay", source: "overlay", target: merged, options: [...data, "nodev"] });
  assert.equal(readFileSync(join(merged, "file-119"), "utf8"), "119");
  assert.equal(readFileSync(join(merged, "same"), "utf8"), "0", "the first lower directory is on top");
  writeFileSync(join(merged, "same"), "new");
  assert.equal(readFileSync(join(upper, "same"), "utf8"), "new");
  assert.ok(
    mounts()
      .find((entry) => entry.target === merged)!
      .options.includes("nodev"),
  );
  unmount(merged);
  assert.equal(existsSync(join(merged, "same")), false);
});

for (const [name, make] of [
  ["mountByConfig", mountByConfig],
  ["mountByDescriptors", mountByDescriptors],
] as const) {
  test(`${name} takes 110 layers, and paths with commas, colons and over 256 bytes`, root, (t) => {
    const dir = scratch(t, "tmpfs");
    const base = join(dir, `odd, name: with \\ signs`, "x".repeat(200));
    const { lower, upper, work, merged } = layers(base, 110);
    const rest = [
      ["upperdir", upper],
      ["workdir", work],
      ["index", "off"],
    ] as const;
    make("overlay", merged, 0, { lower, rest });
    assert.equal(readFileSync(join(merged, "file-109"), "utf8"), "109");
    writeFileSync(join(merged, "file-109"), "copied up");
    assert.equal(readFileSync(join(upper, "file-109"), "utf8"), "copied up");
    unmount(merged);
  });
}

test("mountByConfig passes on what the kernel has to say", root, (t) => {
  const dir = scratch(t, "tmpfs");
  assert.throws(() => mountByConfig("overlay", dir, 0, { lower: [], rest: [["nonsense", "1"]] }), {
    reason: "EINVAL",
    message: /nonsense=1: EINVAL \(e overlay: Unknown parameter 'nonsense'\)/,
  });
});

test("mount of an overlay without upper directory is read-only", root, (t) => {
  const dir = scratch(t, "tmpfs");
  const { lower, merged } = layers(dir, 100);
  mount({ type: "overlay", source: "overlay", target: merged, options: [`lowerdir=${lower.join(":")}`, "ro"] });
  assert.throws(() => writeFileSync(join(merged, "same"), "x"), { code: "EROFS" });
  unmount(merged);
});
