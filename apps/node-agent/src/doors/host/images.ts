/** Images by the host door. */
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  ImageService,
  ListImagesResponseSchema,
  ListPinsResponseSchema,
  RemoveImageResponseSchema,
  UnpinImageResponseSchema,
} from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";
import { toDetails, toHistory, toPruned, toUsage } from "./inspection.ts";
import { exportImages, importImages, pullImage, pushImage, type TransferDeps } from "./transfers.ts";
import { toImage, toPin } from "./wire.ts";

export function imageService(deps: TransferDeps): Implementation {
  const { images } = deps;
  return implement(ImageService, {
    listImages: async ({ namespace, filters }) => {
      const records = await images.list(namespace, filters);
      return create(ListImagesResponseSchema, { images: records.map(toImage) });
    },
    getImage: async ({ namespace, image }) => toImage(await images.get(namespace, image)),
    tagImage: async ({ namespace, image, tag }, { signal }) =>
      toImage(await images.tag({ namespace, image, tag, signal })),
    removeImage: async ({ namespace, image }) => {
      await images.remove(namespace, image);
      return create(RemoveImageResponseSchema);
    },
    pinImage: async ({ namespace, image, holder, until }) => {
      const expiry = until === undefined ? {} : { until: timestampMs(until) };
      return toPin(await images.pins.pin(namespace, image, { ...(holder === "" ? {} : { holder }), ...expiry }));
    },
    unpinImage: async ({ namespace, image, holder }) => {
      await images.pins.unpin(namespace, image, holder === "" ? {} : { holder });
      return create(UnpinImageResponseSchema);
    },
    listPins: async ({ namespace }) => {
      const pins = await images.pins.list(namespace);
      return create(ListPinsResponseSchema, { pins: pins.map(toPin) });
    },
    pullImage: (request, { signal }) => pullImage(deps, request, signal),
    pushImage: (request, { signal }) => pushImage(deps, request, signal),
    importImages: (requests, { signal }) => importImages(deps, requests, signal),
    exportImages: (request, { signal }) => exportImages(deps, request, signal),
    inspectImage: async ({ namespace, image }) => toDetails(await images.inspection.inspect(namespace, image)),
    getImageHistory: async ({ namespace, image }) => toHistory(await images.inspection.history(namespace, image)),
    getImageUsage: async ({ namespace }) => toUsage(await images.inspection.usage(namespace)),
    pruneImages: async ({ namespace, dangling, filters, olderThanMs, dryRun }, { signal }) => {
      const which = { namespace, dangling, filters, dryRun, signal };
      const age = olderThanMs === 0n ? {} : { olderThanMs: Number(olderThanMs) };
      return toPruned(await images.inspection.prune({ ...which, ...age }));
    },
  });
}
