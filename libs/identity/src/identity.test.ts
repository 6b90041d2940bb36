import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ManualClock, silentLogger } from "@berth/base";
import { Authenticator, type StoredToken } from "./authenticator.ts";
import { ensureBootstrapToken, type BootstrapDeps } from "./bootstrap.ts";
import { makeToken, parseToken, sameHash } from "./token.ts";

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-identity-"));
});
after(() => rm(dir, { recursive: true, force: true }));

test("makeToken gives what parseToken reads, and stores no secret", () => {
  for (let i = 0; i < 200; i += 1) {
    const token = makeToken();
    const presented = parseToken(token.text);
    assert.equal(presented.id, token.id);
    assert.ok(sameHash(presented.hash, token.hash));
    assert.ok(!token.text.includes(token.hash));
  }
  assert.notEqual(makeToken().text, makeToken().text);
});

test("parseToken refuses what is no token, without repeating it", () => {
  const good = makeToken().text;
  for (const bad of [
    "",
    "brt_",
    good.slice(0, -1),
    `${good}x`,
    good.toUpperCase(),
    `brt_${"z".repeat(25)}_${"a".repeat(43)}`,
  ]) {
    assert.throws(() => parseToken(bad), { code: "UNAUTHENTICATED", reason: "TOKEN_MALFORMED" }, bad);
  }
  assert.throws(
    () => parseToken("hunter2"),
    (error: Error) => !error.message.includes("hunter2"),
  );
});

test("sameHash compares whole hashes", () => {
  const { hash } = makeToken();
  assert.ok(sameHash(hash, hash));
  assert.ok(!sameHash(hash, makeToken().hash));
  assert.ok(!sameHash(hash, ""));
  assert.ok(!sameHash("", ""));
});

test("Authenticator knows good tokens, and no others", async () => {
  const good = makeToken();
  const rows: StoredToken[] = [{ id: good.id, hash: good.hash, name: "ci" }];
  const auth = new Authenticator({ findToken: async (hash) => rows.find((row) => row.hash === hash) });
  assert.deepEqual(await auth.authenticate(good.text), { tokenId: good.id, name: "ci" });
  await assert.rejects(auth.authenticate(makeToken().text), { code: "UNAUTHENTICATED", reason: "TOKEN_UNKNOWN" });
  const forged = good.text.slice(0, -43) + makeToken().text.slice(-43);
  await assert.rejects(auth.authenticate(forged), { code: "UNAUTHENTICATED", reason: "TOKEN_UNKNOWN" });
});

test("Authenticator compares for itself what the store has found", async () => {
  const other = makeToken();
  const auth = new Authenticator({ findToken: async () => ({ id: other.id, hash: other.hash, name: "x" }) });
  await assert.rejects(auth.authenticate(makeToken().text), { reason: "TOKEN_UNKNOWN" });
});

test("Authenticator asks the store once a while, and heeds a revocation after it", async () => {
  const clock = new ManualClock();
  const token = makeToken();
  let revoked = false;
  let asked = 0;
  const findToken = async (): Promise<StoredToken | undefined> => {
    asked += 1;
    return revoked ? undefined : { id: token.id, hash: token.hash, name: "ci" };
  };
  const auth = new Authenticator({ findToken, clock }, { cacheMs: 1_000 });
  await auth.authenticate(token.text);
  revoked = true;
  await auth.authenticate(token.text);
  assert.equal(asked, 1);
  clock.advance(1_001);
  await assert.rejects(auth.authenticate(token.text), { reason: "TOKEN_UNKNOWN" });
});

function memoryStore(): BootstrapDeps & { rows: { id: string; hash: string }[] } {
  const rows: { id: string; hash: string }[] = [];
  return {
    rows,
    logger: silentLogger,
    hasTokens: async () => rows.length > 0,
    storeFirstToken: async (token) => {
      if (rows.length > 0) return false;
      rows.push(token);
      return true;
    },
  };
}

test("ensureBootstrapToken writes one token for its owner alone, once", async () => {
  const file = join(dir, "deep", "token");
  const store = memoryStore();
  await ensureBootstrapToken(store, file);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const text = (await readFile(file, "utf8")).trim();
  assert.ok(sameHash(parseToken(text).hash, store.rows[0]!.hash));
  await ensureBootstrapToken(store, file);
  assert.equal(store.rows.length, 1);
  assert.equal((await readFile(file, "utf8")).trim(), text);
});

test("ensureBootstrapToken takes up the file of a start that was killed before it stored the hash", async () => {
  const file = join(dir, "killed");
  const token = makeToken();
  await writeFile(file, `${token.text}\n`, { mode: 0o600 });
  const store = memoryStore();
  await ensureBootstrapToken(store, file);
  assert.equal(store.rows[0]!.id, token.id);
});

test("ensureBootstrapToken says what is missing, and where it cannot write", async () => {
  await assert.rejects(ensureBootstrapToken(memoryStore(), undefined), { reason: "BOOTSTRAP_FILE_MISSING" });
  await writeFile(join(dir, "plain"), "");
  await assert.rejects(ensureBootstrapToken(memoryStore(), join(dir, "plain", "token")), {
    reason: "BOOTSTRAP_FILE_UNWRITABLE",
  });
});
