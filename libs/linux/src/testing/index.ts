export { powerCutDisk, type PowerCutDisk } from "./power-cut.ts";
export { scratch, withoutRoot } from "./scratch.ts";
