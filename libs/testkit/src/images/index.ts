export { benchImages } from "./bench/images.ts";
export {
  buildImage,
  buildIndex,
  buildLayer,
  type BuiltImage,
  type BuiltLayer,
  type Compression,
  type ImageBlob,
  type ImageSpec,
  type LayerSpec,
} from "./build.ts";
export { busyboxImage, busyboxRootfs, filesImage, helloImage, type FilesOptions } from "./demo.ts";
export { pushImage, type PushedImage, type PushTarget } from "./push.ts";
export { tar, tarChunks, type TarEntry, type TarType } from "./tar.ts";
