export { MemoryContentStore } from "../memory.ts";
export { contentConformance, type ConformanceOptions } from "./conformance.ts";
