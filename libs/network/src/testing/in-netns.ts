/**
 * Running a test file inside a network namespace of its own: a bridge must never appear in the namespace of the machine
 * that runs the tests. The file starts itself again under `unshare --net`; what fails there is shown by the outer test.
 */
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import assert from "node:assert/strict";

const MARK = "BERTH_TEST_INSIDE_NETNS";

/** Runs `body` only inside; outside it registers the one test that starts this file again. */
export function inOwnNetns(file: string, body: () => void): void {
  if (process.env[MARK] === "1") {
    body();
    return;
  }
  test(`${file.split("/").at(-1)} in a network namespace of its own`, (context) => {
    if (process.getuid?.() !== 0) {
      context.skip("needs root to make network namespaces");
      return;
    }
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const shell = `ip link set lo up && exec "$0" --test-reporter=tap "$1"`;
    const args = ["--net", "--", "sh", "-c", shell, process.execPath, file];
    const run = spawnSync("unshare", args, { env: { ...env, [MARK]: "1" }, encoding: "utf8", timeout: 120_000 });
    const passed = Number(/^# pass (\d+)$/m.exec(run.stdout)?.[1] ?? 0);
    assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
    assert.ok(passed > 0, "no test ran inside");
    context.diagnostic(`${passed} tests passed inside`);
  });
}
