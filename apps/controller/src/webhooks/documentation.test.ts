/** What the page on webhooks shows: the code that verifies does, and the manifest and the configuration are taken. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "node:test";
import { loadControllerConfig } from "@berth/config";
import { makeSecret, signedHeaders } from "./signature.ts";

const PAGE = readFileSync(resolve(import.meta.dirname, "../../../../docs/operations/webhooks.md"), "utf8");
const blockOf = (language: string, begin: string): string =>
  [...PAGE.matchAll(/^```(\w+)\n(.*?)^```/gms)].find(([, tag, text = ""]) => tag === language && text.startsWith(begin))![2]!; // prettier-ignore

type Verify = (secret: string, headers: Record<string, string>, body: string) => void;

void test("the example verifies what is signed, and nothing else", async () => {
  const dir = mkdtempSync(join(tmpdir(), "berth-webhooks-"));
  try {
    const file = join(dir, "verify.mjs");
    writeFileSync(file, blockOf("js", "import"));
    const { verify } = (await import(pathToFileURL(file).href)) as { verify: Verify };
    const [secret, other] = [makeSecret(), makeSecret()];
    const body = '{"type":"io.berth.tasks.exit"}';
    const signed = (secrets: string[], agoSeconds = 0) =>
      signedHeaders(secrets, { id: "msg_1", atSeconds: Math.floor(Date.now() / 1_000) - agoSeconds, body });
    verify(secret, signed([secret]), body);
    verify(secret, signed([other, secret]), body);
    assert.throws(() => verify(secret, signed([other]), body), /signature/);
    assert.throws(() => verify(secret, signed([secret]), `${body} `), /signature/);
    assert.throws(() => verify(secret, { ...signed([secret]), "webhook-id": "msg_2" }, body), /signature/);
    assert.throws(() => verify(secret, signed([secret], 600), body), /timestamp/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

void test("the example of the controller's configuration is one", async () => {
  const dir = mkdtempSync(join(tmpdir(), "berth-webhooks-"));
  try {
    const file = join(dir, "controller.yaml");
    writeFileSync(file, blockOf("yaml", "webhooks:"));
    const env = { DATABASE_URL: "postgres://x", REDIS_URL: "redis://x", NATS_URL: "nats://x" };
    const { webhooks } = await loadControllerConfig({ file, env });
    assert.deepEqual(webhooks, {
      allowPrivate: false,
      allowCidrs: ["10.20.0.0/16"],
      secretsDirectory: "/etc/berth/webhook-secrets",
    });
    writeFileSync(file, "webhooks: { allowCidrs: [10.20.0.0] }\n");
    await assert.rejects(loadControllerConfig({ file, env }), /webhooks\.allowCidrs.*is not a range of addresses/s);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
