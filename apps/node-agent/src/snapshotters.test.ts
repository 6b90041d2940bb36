import assert from "node:assert/strict";
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Lifetime, silentLogger, type Logger } from "@berth/base";
import { loadAgentConfig } from "@berth/config";
import { openMetadata } from "@berth/metadata";
import { openNative, serveSnapshots, snapshotMigrations } from "@berth/snapshots";
import { openSnapshotters, type Snapshotters } from "./snapshotters.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

async function opened(
  t: TestContext,
  settings: (directory: string) => Record<string, unknown>,
  logger: Logger = silentLogger,
): Promise<Snapshotters> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "berth-snapshotters-")));
  const lifetime = new Lifetime();
  t.after(async () => {
    await lifetime[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });
  const urls = { redisUrl: "redis://localhost", natsUrl: "nats://localhost" };
  const values = { ...urls, root: join(directory, "root"), ...settings(directory) };
  const file = join(directory, "agent.json");
  writeFileSync(file, JSON.stringify(values));
  const config = await loadAgentConfig({ file, env: {} });
  const metadata = lifetime.own(await openMetadata({ path: join(directory, "m.db"), migrations: snapshotMigrations }));
  const theirs = lifetime.own(await openNative({ metadata }, { root: join(directory, "theirs") }));
  lifetime.own(await serveSnapshots(() => theirs, join(directory, "theirs.sock")));
  return await openSnapshotters(config, { metadata, lifetime, logger });
}

test(
  "openSnapshotters opens what the host has, the default first, and gives reasons for the rest",
  { skip },
  async (t) => {
    const lines: string[] = [];
    const logger = { ...silentLogger, warn: (_: unknown, text: string) => void lines.push(text) } as Logger;
    const { snapshots, unusable } = await opened(
      t,
      (directory) => ({
        snapshotter: "native",
        proxySnapshotters: {
          theirs: { address: join(directory, "theirs.sock"), capabilities: ["remap-ids"] },
          gone: { address: "unix:///nonexistent/stargz.sock" },
        },
      }),
      logger,
    );
    const names = snapshots.map(({ snapshotter }) => snapshotter.name);
    assert.equal(names[0], "native");
    assert.ok(names.includes("theirs"), String(names));
    const theirs = snapshots.find(({ snapshotter }) => snapshotter.name === "theirs")!;
    assert.equal(theirs.snapshotter.capabilities.idmap, true);
    const shop = theirs.namespace("shop");
    await shop.prepare("k", "");
    assert.equal((await shop.stat("k")).kind, "active");
    const reasons = Object.fromEntries(unusable.map(({ name, reason }) => [name, reason]));
    assert.match(reasons["zfs"] ?? "", /no zfs data set is mounted/);
    assert.match(reasons["gone"] ?? "", /there is no socket at \/nonexistent\/stargz\.sock/);
    assert.ok(lines.some((line) => line.startsWith("snapshotter gone cannot be used: ")));
    assert.equal(
      lines.some((line) => line.startsWith("snapshotter zfs")),
      false,
      "nobody counted on it",
    );
  },
);

test("openSnapshotters refuses to start without the configured default, and says why", { skip }, async (t) => {
  await assert.rejects(
    opened(t, () => ({ snapshotter: "zfs" })),
    { reason: "SNAPSHOTTER_UNUSABLE", message: /"zfs".*no zfs data set is mounted.*usable: .*native/ },
  );
  await assert.rejects(
    opened(t, () => ({ snapshotter: "stargz" })),
    { reason: "SNAPSHOTTER_UNUSABLE", message: /there is none of that name/ },
  );
});
