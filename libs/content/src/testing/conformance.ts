/**
 * What every content store must do, after the contract in `content.ts` and containerd's `core/content/testsuite`. Each test
 * opens a store of its own.
 */
import { test } from "node:test";
import type { ContentStore } from "../content.ts";
import { BLOBS, FILES, NAMESPACES } from "./blob-checks.ts";
import { COMMITS, INGESTS } from "./ingest-checks.ts";

export interface ConformanceOptions {
  /** Do `path` and `dataPath` name files? */
  readonly files: boolean;
}

/** Registers the suite. `open` gives an empty store; disposing it must remove all that it made. */
export function contentConformance(name: string, open: () => Promise<ContentStore>, options: ConformanceOptions): void {
  const suites = [INGESTS, COMMITS, BLOBS, NAMESPACES, ...(options.files ? [FILES] : [])];
  for (const suite of suites) {
    for (const [what, check] of Object.entries(suite)) {
      void test(`${name} ${what}`, async () => {
        await using store = await open();
        await check(store);
      });
    }
  }
}
