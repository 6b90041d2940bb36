/** Two successive builds work together: docs/operations/upgrade.md promises it. `npm run soak -- upgrade` goes further back. */
import { test } from "node:test";
import { scratchDir } from "@berth/testkit";
import { PREVIOUS_COMMIT, whyNotThere } from "../support/two-builds/previous-build.ts";
import { rollOver } from "../support/two-builds/rolling.ts";

void test("controllers and agents of this build and the one before lead each other's tasks", async (context) => {
  const missing = whyNotThere(PREVIOUS_COMMIT);
  if (missing !== undefined) return context.skip(missing);
  using scratch = scratchDir("berth-builds");
  await rollOver({
    commit: PREVIOUS_COMMIT,
    dir: scratch.dir,
    nodes: 1,
    thorough: false,
    log: (line) => context.diagnostic(line),
  });
});
