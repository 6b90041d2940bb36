/**
 * A sample of the partition suite (`npm run soak -- partitions` runs all of it, several times): no task of stopThenReplace ever
 * runs twice at once, kept ones go on, what has ended stays as it ended, and everything is as desired after healing.
 */
import { test } from "node:test";
import { runPartitions } from "../support/partitions/suite.ts";

void test(
  "partitions: a node cut off while its agent is killed, answers lost, a controller without Postgres",
  { timeout: 280_000 },
  async (t) => {
    await runPartitions({
      seed: 4,
      partitions: [
        "a node whose agent is killed meanwhile",
        "what a node is told is lost",
        "the controller from Postgres",
      ],
      log: (line) => t.diagnostic(line),
    });
  },
);
