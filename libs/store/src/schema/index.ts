export * from "./drills.ts";
export * from "./machinery.ts";
export * from "./placement.ts";
export * from "./resources.ts";
export * from "./upgrades.ts";
