import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { readContextFile, resolveContext, userConfigPath, writeContextFile } from "./context.ts";

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "berth-context-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

const entry = (endpoint: string): { endpoint: string; token: string } => ({ endpoint, token: "secret" });

void test("writeContextFile makes files that only their owner reads, and readContextFile refuses others", (t) => {
  const path = join(folder(t), "berth", "config.json");
  writeContextFile(path, { contexts: { a: entry("http://a:1") } });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  chmodSync(path, 0o644);
  assert.throws(() => readContextFile(path), { reason: "CONTEXT_FILE_OPEN", message: /chmod 600/ });
});

void test("resolveContext takes --endpoint, --context, BERTH_CONTEXT, the user's file, then .berth upward", (t) => {
  const dir = folder(t);
  const env = { XDG_CONFIG_HOME: join(dir, "config"), HOME: dir };
  const below = join(dir, "clone", "deep", "down");
  mkdirSync(below, { recursive: true });
  const local = join(dir, "clone", ".berth", "config.json");
  writeContextFile(local, { currentContext: "dev", contexts: { dev: entry("http://dev:1") } });
  assert.equal(resolveContext({}, env, below).endpoint, "http://dev:1");
  writeContextFile(userConfigPath(env), {
    currentContext: "a",
    contexts: { a: entry("http://a:1"), b: entry("http://b:1") },
  });
  assert.equal(resolveContext({}, env, below).name, "a");
  assert.equal(resolveContext({}, { ...env, BERTH_CONTEXT: "b" }, below).name, "b");
  assert.equal(resolveContext({ context: "dev" }, { ...env, BERTH_CONTEXT: "b" }, below).origin, local);
  assert.equal(resolveContext({}, { ...env, BERTH_ENDPOINT: "http://e:1", BERTH_TOKEN: "t" }, below).token, "t");
  assert.equal(resolveContext({ endpoint: "http://f:1", context: "b" }, env, below).endpoint, "http://f:1");
});

void test("resolveContext says which contexts there are, and how to get one", (t) => {
  const dir = folder(t);
  const env = { XDG_CONFIG_HOME: dir };
  assert.throws(() => resolveContext({}, env, dir), { reason: "CONTEXT_MISSING", message: /npm run up/ });
  writeContextFile(userConfigPath(env), { contexts: { a: entry("http://a:1") } });
  assert.throws(() => resolveContext({ context: "z" }, env, dir), {
    reason: "CONTEXT_MISSING",
    message: /there are: a/,
  });
});
