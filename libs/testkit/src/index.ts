export * from "./fleet/index.ts";
export * from "./hosts/index.ts";
export * from "./images/index.ts";
export * from "./servers/index.ts";
