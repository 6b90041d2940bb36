import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { StatusError } from "@berth/base";
import { DockerConfig } from "./docker-config.ts";

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "berth-docker-"));
});
after(() => rmSync(folder, { recursive: true }));

const auth = (text: string): string => Buffer.from(text).toString("base64");

function configOf(value: unknown, helperTimeoutMs = 20_000): DockerConfig {
  const path = join(folder, "config.json");
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return new DockerConfig({ path, helperPath: `/nonexistent:${folder}`, helperTimeoutMs });
}

function helper(name: string, script: string): void {
  writeFileSync(join(folder, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

const find = (config: DockerConfig, host: string) => config.credentials(host, undefined);

test("DockerConfig finds credentials of a host, however its key is written, and of no other", async () => {
  const config = configOf({
    auths: {
      "https://index.docker.io/v1/": { auth: auth("hub:secret") },
      "reg.example:5000": { auth: auth("ann:p:w") },
      "https://v2.example/v2/": { username: "bob", password: "b" },
      "id.example": { auth: auth("<x>:y"), identitytoken: "refresh" },
      "quay.example/team": { auth: auth("team:only") },
      "empty.example": {},
    },
    psFormat: "unknown fields are Docker's own",
  });
  assert.deepEqual(await find(config, "docker.io"), { username: "hub", password: "secret" });
  assert.deepEqual(await find(config, "registry-1.docker.io"), { username: "hub", password: "secret" });
  assert.deepEqual(await find(config, "reg.example:5000"), { username: "ann", password: "p:w" });
  assert.deepEqual(await find(config, "v2.example"), { username: "bob", password: "b" });
  assert.deepEqual(await find(config, "id.example"), { username: "<token>", password: "refresh" });
  for (const host of ["reg.example", "quay.example", "empty.example", "evil.example"]) {
    assert.equal(await find(config, host), undefined, host);
  }
});

test("DockerConfig reads the file again when it has changed, and an absent one is empty", async () => {
  const config = configOf({ auths: { a: { auth: auth("one:1") } } });
  assert.equal((await find(config, "a"))?.username, "one");
  configOf({ auths: { a: { auth: auth("another:2") } } });
  assert.equal((await find(config, "a"))?.username, "another");
  rmSync(join(folder, "config.json"));
  assert.equal(await find(config, "a"), undefined);
});

test("DockerConfig says what is wrong with the file without quoting it", async () => {
  const cases: [unknown, RegExp][] = [
    ['{"auths": {"a": {"auth": "s3cret" ', /is not JSON/],
    [[], /is not an object/],
    [{ auths: { a: "s3cret" } }, /auths is not an object of objects/],
    [{ auths: { a: { auth: auth("s3cret") } } }, /auths\["a"\]\.auth is not user:password/],
    [{ auths: { a: { registrytoken: "s3cret" } } }, /registrytoken is not supported/],
    [{ credHelpers: { a: 3 } }, /credHelpers is not an object of strings/],
  ];
  for (const [value, message] of cases) {
    await assert.rejects(find(configOf(value), "a"), (error: unknown) => {
      assert.ok(error instanceof StatusError);
      assert.equal(error.reason, "DOCKER_CONFIG_INVALID");
      assert.match(error.message, message);
      assert.ok(!error.message.includes("s3cret"));
      return true;
    });
  }
});

test("DockerConfig asks helpers: a host's own, then the store for all", async () => {
  helper("own", `cat > ${folder}/asked; printf '{"ServerURL":"x","Username":"helped","Secret":"h"}'`);
  helper(
    "store",
    `read host; if [ "$host" = known ]; then echo '{"Username":"<token>","Secret":"t"}'; else echo 'credentials not found in native keychain'; exit 1; fi`,
  );
  const config = configOf({
    credHelpers: { "own.example": "own", "docker.io": "own" },
    credsStore: "store",
    auths: { "plain.example": { auth: auth("plain:p") } },
  });
  assert.deepEqual(await find(config, "own.example"), { username: "helped", password: "h" });
  assert.equal(readFileSync(join(folder, "asked"), "utf8"), "own.example");
  assert.deepEqual(await find(config, "registry-1.docker.io"), { username: "helped", password: "h" });
  assert.deepEqual(await find(config, "known"), { username: "<token>", password: "t" });
  assert.deepEqual(await find(config, "plain.example"), { username: "plain", password: "p" });
  assert.equal(await find(config, "unknown.example"), undefined);
});

test("DockerConfig bounds a helper in time and output, names it, and never tells what it wrote", async () => {
  helper("fails", "echo s3cret; exit 3");
  helper("nonsense", "echo s3cret");
  helper("endless", "yes s3cret");
  // Its child would outlive it.
  helper("hangs", `sleep 1000 & echo $! > ${folder}/child; wait`);
  const names = { a: "fails", b: "nonsense", c: "endless", d: "hangs", e: "missing", f: "../evil" };
  const patient = configOf({ credHelpers: names }, 10_000);
  const hasty = configOf({ credHelpers: names }, 500);
  const messages: Record<string, RegExp> = {
    a: /credential helper .*docker-credential-fails for a: ended with exit code 3/,
    b: /docker-credential-nonsense for b: gave no Username and Secret/,
    c: /docker-credential-endless for c: (wrote more than 65536 bytes|did not answer)/,
    d: /docker-credential-hangs for d: did not answer within 500 ms/,
    e: /"docker-credential-missing" is not installed/,
    f: /is not a program's name/,
  };
  for (const [host, message] of Object.entries(messages)) {
    await assert.rejects(find(host === "d" ? hasty : patient, host), (error: unknown) => {
      assert.ok(error instanceof StatusError);
      assert.match(error.message, message);
      assert.ok(!error.message.includes("s3cret"));
      return true;
    });
  }
  const child = readFileSync(join(folder, "child"), "utf8").trim();
  const alive = existsSync(`/proc/${child}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${child}/status`, "utf8"));
  assert.ok(!alive, "what the helper started is ended with it");
  await assert.rejects(hasty.credentials("d", AbortSignal.timeout(50)), { name: "StatusError" });
});
