import { MemoryContentStore } from "./memory.ts";
import { contentConformance } from "./testing/index.ts";

contentConformance("MemoryContentStore", async (config) => new MemoryContentStore(config), { files: false });
