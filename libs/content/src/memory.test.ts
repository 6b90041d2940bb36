import { MemoryContentStore } from "./memory.ts";
import { contentConformance } from "./testing/index.ts";

contentConformance("MemoryContentStore", async () => new MemoryContentStore(), { files: false });
