/** The servers' configuration that docs/operations/servers.md shows is one. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratchDir } from "@berth/testkit/servers";

const PAGE = readFileSync(join(import.meta.dirname, "../../docs/operations/servers.md"), "utf8");

void test("nats-server takes the configuration of the page", () => {
  const [, shown] = /```nats\n(.*?)```/s.exec(PAGE) ?? [];
  assert.ok(shown !== undefined);
  const { dir, [Symbol.dispose]: remove } = scratchDir("berth-docs");
  try {
    const file = join(dir, "nats.conf");
    writeFileSync(file, shown.replace("/var/lib/nats", join(dir, "store")));
    execFileSync("nats-server", ["-t", "-c", file], { stdio: "pipe" });
  } finally {
    remove();
  }
});
