import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { WebhookRow } from "@berth/store";
import { secretsOf } from "./secrets.ts";
import { makeSecret } from "./signature.ts";

const row = (secretFile: string, more: Partial<WebhookRow> = {}): WebhookRow =>
  ({ namespace: "shop", spec: { secretFile }, secret: "", previousSecret: "", previousSecretUntil: null, ...more }) as WebhookRow; // prettier-ignore

void test("secretsOf reads the lines of a file, the newest first, and says what is wrong with it without saying what is in it", async () => {
  const dir = mkdtempSync(join(tmpdir(), "berth-secrets-"));
  try {
    mkdirSync(join(dir, "shop"));
    const file = join(dir, "shop", "ci");
    const [first, second] = [makeSecret(), makeSecret()];
    const read = (directory: string | undefined = dir): Promise<string[]> =>
      secretsOf(row("ci"), directory, new Date());
    await assert.rejects(read(), /shop\/ci cannot be used: it is not there/);
    writeFileSync(file, `${first}\n`);
    assert.deepEqual(await read(), [first]);
    writeFileSync(file, `${second}\n\n${first}\n`);
    assert.deepEqual(await read(), [second, first]);
    writeFileSync(file, `${second}\nhunter2\n`);
    await assert.rejects(read(), /line 2 does not begin with whsec_$/);
    writeFileSync(file, "\n");
    await assert.rejects(read(), /it is empty/);
    await assert.rejects(secretsOf(row("ci"), undefined, new Date()), /has no webhooks\.secretsDirectory/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

void test("secretsOf gives the secret before until its grace is over", async () => {
  const until = new Date("2026-01-01T00:00:00Z");
  const rotated = row("", { secret: "new", previousSecret: "old", previousSecretUntil: until });
  assert.deepEqual(await secretsOf(rotated, undefined, new Date(until.getTime() - 1)), ["new", "old"]);
  assert.deepEqual(await secretsOf(rotated, undefined, until), ["new"]);
});
