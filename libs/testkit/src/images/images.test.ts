import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startRegistry } from "../servers/registry.ts";
import { scratchDir } from "../servers/scratch.ts";
import { buildImage, buildIndex, type BuiltImage } from "./build.ts";
import { busyboxImage, filesImage, helloImage } from "./demo.ts";
import { pushImage } from "./push.ts";
import { tar } from "./tar.ts";

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

test("tar writes archives that GNU tar unpacks as they were meant", () => {
  using scratch = scratchDir();
  const long = `${"d".repeat(90)}/${"f".repeat(120)}`;
  const archive = tar([
    { path: "dir", type: "dir", mode: 0o750, uid: 12, gid: 34 },
    { path: "dir/file", content: "text", mode: 0o4755, mtime: 1_000_000_000, xattrs: { "user.note": "é=1\n" } },
    { path: "dir/same", type: "hardlink", linkTo: "dir/file" },
    { path: "dir/sym", type: "symlink", linkTo: "x".repeat(150) },
    { path: "pipe", type: "fifo" },
    { path: "null", type: "char", device: { major: 1, minor: 3 } },
    { path: "d".repeat(90), type: "dir" },
    { path: long, content: Buffer.alloc(1000, 7) },
  ]);
  const file = join(scratch.dir, "a.tar");
  const out = join(scratch.dir, "out");
  mkdirSync(out);
  writeFileSync(file, archive);
  run("tar", "--xattrs", "--same-permissions", "-C", out, "-xf", file);
  assert.equal(readFileSync(join(out, "dir/file"), "utf8"), "text");
  const info = statSync(join(out, "dir/file"));
  assert.equal(info.mode & 0o7777, 0o4755);
  assert.equal(info.mtimeMs, 1_000_000_000_000);
  assert.equal(info.nlink, 2);
  assert.equal(statSync(join(out, "dir")).gid, 34);
  assert.ok(lstatSync(join(out, "dir/sym")).isSymbolicLink());
  assert.ok(statSync(join(out, "pipe")).isFIFO());
  assert.equal(statSync(join(out, "null")).rdev, (1 << 8) | 3);
  assert.equal(readFileSync(join(out, long)).length, 1000);
});

test("pushImage pushes images that skopeo reads back whole, in every compression and format", async () => {
  using scratch = scratchDir();
  await using registry = await startRegistry({ dir: join(scratch.dir, "registry"), username: "berth" });
  const { username, password } = registry.credentials ?? assert.fail("no credentials");
  const entries = [{ path: "hello.txt", content: "hello\n".repeat(500) }];
  const images: Record<string, BuiltImage> = {
    oci: buildImage({
      layers: [{ entries }, { entries, compression: "none" }, { entries, compression: "zstd" }],
    }),
    docker: buildImage({ layers: [{ entries }], format: "docker" }),
    index: buildIndex([
      buildImage({ layers: [{ entries }] }),
      buildImage({ layers: [{ entries: [] }], architecture: "s390x" }),
    ]),
  };
  for (const [tag, image] of Object.entries(images)) {
    const pushed = await pushImage(registry, "test/image", tag, image);
    assert.equal(pushed.name, `${registry.address}/test/image:${tag}`);
    const target = join(scratch.dir, tag);
    const login = ["--src-tls-verify=false", `--src-creds=${username}:${password}`, "--insecure-policy"];
    run("skopeo", "copy", "--all", ...login, `docker://${pushed.name}`, `dir:${target}`);
    assert.ok(readdirSync(target).length > 2);
  }
  await assert.rejects(() => pushImage({ api: registry.api }, "test/image", "x", busyboxImage()), /401/);
});

test("helloImage runs and ends with 0 when asked to", async () => {
  using scratch = scratchDir();
  const image = helloImage();
  const root = join(scratch.dir, "root");
  mkdirSync(root);
  for (const layer of image.layers) {
    assert.ok("bytes" in layer.blob);
    writeFileSync(join(scratch.dir, "layer.gz"), layer.blob.bytes);
    run("tar", "-C", root, "-xzf", join(scratch.dir, "layer.gz"));
  }
  const script = "INTERVAL_SECONDS=0.05 timeout -s TERM 0.5 /usr/local/bin/hello";
  const output = run("chroot", root, "/bin/sh", "-c", `${script}; echo code $?`);
  assert.match(output, /: hello from /);
  assert.match(output, /still here \(2\)/);
  assert.match(output, /goodbye/);
});

test("filesImage is the same for the same seed, and different for another", () => {
  assert.equal(filesImage({ count: 200 }).root.digest, filesImage({ count: 200 }).root.digest);
  assert.notEqual(filesImage({ count: 200 }).root.digest, filesImage({ count: 200, seed: 2 }).root.digest);
});
