/** Archives out of trees in use and into them. Synchronous: for workers, which need nothing else of this package. */
export { packTree, type PackedTree, type PackTotals } from "./archive/pack-tree.ts";
export { UnpackInto, type UnpackTotals } from "./archive/unpack-into.ts";
export { fromPlainError, toPlainError, type PlainError } from "./pull/layer-job.ts";
