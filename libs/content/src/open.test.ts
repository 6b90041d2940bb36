import { join } from "node:path";
import { temporaryMetadata } from "@berth/metadata/testing";
import type { ContentStore } from "./content.ts";
import { contentMigrations, openContentStore } from "./index.ts";
import type { StoreConfig } from "./testing/checks.ts";
import { contentConformance } from "./testing/index.ts";

async function openTemporary({ shareable, ...config }: StoreConfig): Promise<ContentStore> {
  const metadata = await temporaryMetadata(contentMigrations);
  const root = join(metadata.folder, "content");
  const store = await openContentStore({ root, metadata, ...(shareable === undefined ? {} : { shareable }) }, config);
  const dispose = store[Symbol.asyncDispose].bind(store);
  return Object.assign(store, {
    async [Symbol.asyncDispose]() {
      await dispose();
      await metadata[Symbol.asyncDispose]();
    },
  });
}

contentConformance("openContentStore", openTemporary, { files: true });
