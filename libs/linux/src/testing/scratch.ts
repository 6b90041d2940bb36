/** A directory for one test, unmounted and removed when the test ends. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { mount, unmountUnder } from "../mount.ts";

/** For `{ skip }`: what a test that changes the kernel's state needs. */
export const withoutRoot: string | false = process.getuid?.() === 0 ? false : "needs root";

/** On the disk of the temporary directory, or on a tmpfs of its own. */
export function scratch(t: TestContext, kind: "disk" | "tmpfs" = "disk"): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "berth-linux-")));
  t.after(() => {
    unmountUnder(directory, { detach: true });
    rmSync(directory, { recursive: true, force: true });
  });
  if (kind === "tmpfs") mount({ type: "tmpfs", source: "tmpfs", target: directory, options: ["mode=755"] });
  return directory;
}
