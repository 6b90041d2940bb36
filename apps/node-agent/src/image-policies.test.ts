import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { StatusError } from "@berth/base";
import { loadAgentConfig, type AgentConfig } from "@berth/config";
import { readImagePolicies } from "./image-policies.ts";

let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "berth-policies-"));
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  await writeFile(join(folder, "good.pub"), publicKey.export({ type: "spki", format: "pem" }));
  await writeFile(join(folder, "bad.pub"), "garbage");
});
after(() => rm(folder, { recursive: true }));

async function load(imagePolicies: unknown): Promise<AgentConfig> {
  const file = join(folder, "agent.yaml");
  await writeFile(file, JSON.stringify({ redisUrl: "redis://r", natsUrl: "nats://n", imagePolicies }));
  return await loadAgentConfig({ file, env: {} });
}

/** The fields that a configuration is refused for. */
async function refusedFor(imagePolicies: unknown): Promise<string[]> {
  const error: unknown = await load(imagePolicies)
    .then(readImagePolicies)
    .then(
      () => undefined,
      (e: unknown) => e,
    );
  assert.ok(error instanceof StatusError && error.reason === "CONFIG_INVALID", String(error));
  return error.violations.map(({ field }) => field);
}

test("readImagePolicies gives each namespace its policy, and the others that of *", async () => {
  const keyFiles = [join(folder, "good.pub")];
  const policies = await readImagePolicies(
    await load({
      shop: {
        rules: [{ pattern: "registry.example/base/*", require: [{ kind: "none" }] }],
        default: [
          { kind: "key", keyFiles, repository: "same" },
          { kind: "bindir", directory: "/opt/verifiers" },
        ],
      },
      "*": { default: [{ kind: "digest-only" }] },
    }),
  );
  const [key, bindir] = policies("shop")!.default;
  assert.ok(key?.kind === "key" && key.keys[0]!.includes("BEGIN PUBLIC KEY") && key.repository === "same");
  assert.equal(bindir!.kind, "bindir");
  assert.equal(policies("shop")!.rules[0]!.pattern, "registry.example/base/*");
  assert.deepEqual(policies("other")!.default, [{ kind: "digest-only" }]);
  assert.equal((await readImagePolicies(await load({})))("shop"), undefined);
});

test("readImagePolicies names the field that is wrong", async () => {
  const bad = join(folder, "bad.pub");
  const key = (keyFiles: string[]): unknown => ({ shop: { default: [{ kind: "key", keyFiles }] } });
  assert.deepEqual(await refusedFor(key([bad])), ["imagePolicies.shop.default[0].keyFiles[0]"]);
  assert.deepEqual(await refusedFor(key([`${bad}.missing`])), ["imagePolicies.shop.default[0].keyFiles[0]"]);
  assert.deepEqual(await refusedFor(key([])), ["imagePolicies.shop.default.0.keyFiles"]);
  assert.deepEqual(await refusedFor({ shop: { default: [{ kind: "magic" }] } }), ["imagePolicies.shop.default.0.kind"]);
  assert.deepEqual(await refusedFor({ shop: { default: [] } }), ["imagePolicies.shop.default"]);
  const rules = [{ pattern: "a b", require: [{ kind: "none" }] }];
  assert.deepEqual(await refusedFor({ shop: { rules, default: [{ kind: "none" }] } }), [
    "imagePolicies.shop.rules.0.pattern",
  ]);
  const identities = [{ subject: "a@b", issuer: "https://i" }];
  const keyless = { kind: "keyless", trustRootFile: bad, identities };
  assert.deepEqual(await refusedFor({ shop: { default: [keyless] } }), ["imagePolicies.shop.default[0].trustRootFile"]);
});

test("the example in the documentation is a configuration", async () => {
  const text = await readFile(new URL("../../../docs/operations/image-verification.md", import.meta.url), "utf8");
  const example = /```yaml\n([^]*?)```/
    .exec(text)![1]!
    .replaceAll("/etc/berth/keys/release.pub", join(folder, "good.pub"));
  const file = join(folder, "example.yaml");
  await writeFile(file, `redisUrl: redis://r\nnatsUrl: nats://n\n${example}`);
  const policies = await readImagePolicies(await loadAgentConfig({ file, env: {} }));
  assert.equal(policies("shop")!.default[0]!.kind, "key");
  assert.equal(policies("any")!.default[0]!.kind, "digest-only");
});
