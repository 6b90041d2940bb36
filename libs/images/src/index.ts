export type { Collected, ImageReferences } from "./collect.ts";
export type {
  ImageRecord,
  Images,
  LayerProgress,
  PullPhase,
  PullProgress,
  PullRequest,
  UnpackedImage,
} from "./images.ts";
export { imageMigrations } from "./migrations.ts";
export { openImages, type ImagesConfig, type ImagesDeps } from "./service.ts";
