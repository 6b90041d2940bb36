import { join } from "node:path";
import { temporaryMetadata } from "@berth/metadata/testing";
import type { ContentStore } from "./content.ts";
import { contentMigrations, openContentStore } from "./index.ts";
import { contentConformance } from "./testing/index.ts";

async function openTemporary(): Promise<ContentStore> {
  const metadata = await temporaryMetadata(contentMigrations);
  const store = await openContentStore({ root: join(metadata.folder, "content"), metadata });
  const dispose = store[Symbol.asyncDispose].bind(store);
  return Object.assign(store, {
    async [Symbol.asyncDispose]() {
      await dispose();
      await metadata[Symbol.asyncDispose]();
    },
  });
}

contentConformance("openContentStore", openTemporary, { files: true });
