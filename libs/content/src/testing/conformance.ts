/**
 * What every content store must do, after the contract in `content.ts` and containerd's `core/content/testsuite`. Each test
 * opens a store of its own.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BLOBS, FILES, NAMESPACES } from "./blob-checks.ts";
import type { OpenStore, StoreConfig, Suite } from "./checks.ts";
import { COMMITS, INGESTS } from "./ingest-checks.ts";
import { LABELS, LEASES, LIMITS, STREAMS } from "./label-checks.ts";
import { ISOLATED, SHAREABLE, SHARED } from "./sharing-checks.ts";

export interface ConformanceOptions {
  /** Do `path` and `dataPath` name files? */
  readonly files: boolean;
}

/**
 * Registers the suite. `open` gives an empty store with what the config says and leaves the rest at its defaults; disposing it
 * must remove all that it made.
 */
export function contentConformance(name: string, open: OpenStore, options: ConformanceOptions): void {
  const suites: readonly (readonly [string, Suite, StoreConfig])[] = [
    ...[INGESTS, COMMITS, BLOBS, NAMESPACES, LABELS, LEASES, STREAMS, ...(options.files ? [FILES] : [])].map(
      (suite) => ["", suite, {}] as const,
    ),
    ["", LIMITS, { maxIngestBytes: 8 }],
    [" (isolated)", ISOLATED, {}],
    [" (shared)", SHARED, { sharing: "shared" }],
    [" (a is shareable)", SHAREABLE, { shareable: (namespace) => namespace === "a" }],
  ];
  for (const [suffix, suite, config] of suites) {
    for (const [what, check] of Object.entries(suite)) {
      void test(`${name}${suffix} ${what}`, async () => {
        await using store = await open(config);
        assert.equal(store.capabilities.files, options.files);
        await check(store);
      });
    }
  }
}
