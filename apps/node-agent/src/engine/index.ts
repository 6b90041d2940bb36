export type { Engine } from "./engine.ts";
export type { Execution } from "./execution.ts";
export type { RunIntent } from "./intent.ts";
