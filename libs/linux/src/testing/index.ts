export {
  livePowerCutDisk,
  powerCutDisk,
  type LivePowerCutDisk,
  type PowerCutDisk,
  type PowerCutFileSystem,
} from "./power-cut.ts";
export { scratch, withoutRoot } from "./scratch.ts";
