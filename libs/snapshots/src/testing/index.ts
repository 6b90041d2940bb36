export { snapshotterConformance, type ConformanceOptions, type OpenHost } from "./conformance.ts";
export { directoryHost, type DirectoryHostOptions } from "./host.ts";
export { chain, collected, committedTree, layer, treeOf, within, type Change, type ConformanceHost } from "./layers.ts";
export { loopDisk, sharedLoopDisk, withoutLoopDisk, type LoopKind } from "./loop-disk.ts";
export { randomOperations, type RandomRun } from "./random.ts";
export { readTree, type Tree } from "./tree.ts";
