/**
 * The registry of an image that came from none: it has nothing. An import hands it to the pull path, which finds all bytes
 * here before it asks.
 */
import { StatusError } from "@berth/base";
import { formatImageReference, type ImageReference } from "@berth/model";
import type { RegistryClient } from "@berth/registry";

export const offlineRegistry: RegistryClient = {
  manifest: async (ref) => nothing(ref),
  resolve: async () => undefined,
  blob: async (ref) => nothing(ref),
  hasBlob: async () => false,
  referrers: async () => [],
  pushBlob: async (ref) => nothing(ref),
  pushManifest: async (ref) => nothing(ref),
  session: (ref) => nothing(ref),
  [Symbol.asyncDispose]: async () => {},
};

function nothing(ref: ImageReference): never {
  throw new StatusError("NOT_FOUND", `${formatImageReference(ref)} is not in the archive`, { reason: "IMAGE_MISSING" });
}
