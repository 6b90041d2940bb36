import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { digestOf, StatusError } from "@berth/base";
import { isAlive } from "@berth/linux";
import { failureOf } from "../testing/failure.ts";
import { findPrograms, runPrograms } from "./bindir.ts";

const descriptor = { mediaType: "application/vnd.oci.image.manifest.v1+json", digest: digestOf("x"), size: 7 };
const subject = { name: "registry.example/app:1", descriptor };
const never = new AbortController().signal;
let root: string;

before(async () => {
  root = await mkdtemp(join(tmpdir(), "berth-bindir-"));
});
after(() => rm(root, { recursive: true }));

/** A folder with these shell scripts. */
async function folderOf(...scripts: string[]): Promise<string> {
  const directory = await mkdtemp(join(root, "bin-"));
  for (const [index, script] of scripts.entries()) {
    const path = join(directory, `verifier-${String(index).padStart(2, "0")}`);
    await writeFile(path, `#!/bin/sh\n${script}\n`);
    await chmod(path, 0o755);
  }
  return directory;
}

async function run(directory: string, timeoutMs = 30_000, signal = never): Promise<string> {
  const requirement = { kind: "bindir", directory, timeoutMs } as const;
  const { programs } = await findPrograms(requirement);
  return await runPrograms(requirement, programs, subject, signal);
}

test("runPrograms gives name, digest, media type and descriptor, and none of the agent's environment", async () => {
  const out = join(root, "seen");
  process.env["BERTH_TEST_SECRET"] = "secret";
  const said = await run(await folderOf(`{ echo "$@"; cat; echo; env; } > ${out}; echo fine`));
  delete process.env["BERTH_TEST_SECRET"];
  const [args, stdin, ...env] = (await readFile(out, "utf8")).split("\n");
  const type = "application/vnd.oci.descriptor.v1+json";
  assert.equal(args, `-name ${subject.name} -digest ${descriptor.digest} -stdin-media-type ${type}`);
  assert.deepEqual(JSON.parse(stdin!), descriptor);
  assert.ok(!env.some((line) => line.includes("secret")));
  assert.match(said, /: fine$/);
});

test("runPrograms wants all to allow", async () => {
  await run(await folderOf("exit 0", "exit 0"));
  const error = await failureOf(run(await folderOf("exit 0", "echo not signed; exit 3")));
  assert.equal(error.reason, "IMAGE_REFUSED");
  assert.match(error.message, /exit code 3: not signed/);
});

test("runPrograms bounds what a program prints, garbage included, and does not mind unread input", async () => {
  const error = await failureOf(run(await folderOf("head -c 20000000 /dev/urandom; exit 1")));
  assert.equal(error.reason, "IMAGE_REFUSED");
  assert.ok(error.message.length < 1500, `${error.message.length} characters`);
  // oxlint-disable-next-line no-control-regex -- exactly those must not be there
  assert.doesNotMatch(error.message, /[\x00-\x1f\x7f]/);
  await run(await folderOf("exec < /dev/null; yes | head -c 5000000; exit 0"));
});

test("runPrograms ends a program that hangs, with what it started", async () => {
  const pids = join(root, "pids");
  const directory = await folderOf(`sleep 1000 & echo $$ $! > ${pids}; wait`);
  const error = await failureOf(run(directory, 1_500));
  assert.equal(error.reason, "VERIFIER_TIMEOUT");
  for (const pid of (await readFile(pids, "utf8")).trim().split(" ")) {
    for (let tries = 0; isAlive(Number(pid)) && tries < 2_000; tries += 1) await setTimeout(5);
    assert.ok(!isAlive(Number(pid)), `process ${pid} lives`);
  }
});

test("runPrograms is called off by its signal", async () => {
  const abort = new AbortController();
  const running = failureOf(run(await folderOf("sleep 1000"), 30_000, abort.signal));
  abort.abort(new StatusError("CANCELLED", "enough"));
  assert.equal((await running).code, "CANCELLED");
});

test("runPrograms refuses what is no program", async () => {
  for (const content of ["", "exit 0\n"]) {
    const directory = await folderOf();
    await writeFile(join(directory, "bad"), content);
    await chmod(join(directory, "bad"), 0o755);
    assert.equal((await failureOf(run(directory))).reason, "VERIFIER_PROGRAMS");
  }
});

test("findPrograms refuses folders that are missing, empty or too full, and sees a program change", async () => {
  const requirement = { kind: "bindir", directory: "/nonexistent/bin" } as const;
  assert.equal((await failureOf(findPrograms(requirement))).reason, "VERIFIER_PROGRAMS");
  assert.equal((await failureOf(run(await folderOf()))).reason, "VERIFIER_PROGRAMS");
  assert.match((await failureOf(run(await folderOf(...Array<string>(11).fill("exit 0"))))).message, /11 programs/);
  const directory = await folderOf("exit 0");
  const { version, programs } = await findPrograms({ kind: "bindir", directory });
  assert.equal((await findPrograms({ kind: "bindir", directory })).version, version);
  await utimes(programs[0]!, 1, 1);
  assert.notEqual((await findPrograms({ kind: "bindir", directory })).version, version);
});
