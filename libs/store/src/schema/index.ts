export * from "./machinery.ts";
export * from "./resources.ts";
