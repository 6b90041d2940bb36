/** Images by the host door. */
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Images, PullProgress } from "@berth/images";
import {
  ImageService,
  ListImagesResponseSchema,
  ListPinsResponseSchema,
  PullImageResponseSchema,
  RemoveImageResponseSchema,
  UnpinImageResponseSchema,
  type PullImageRequest,
  type PullImageResponse,
} from "@berth/proto/host";
import { implement, type CallContext, type Implementation } from "@berth/rpc";
import { followed } from "./followed.ts";
import { toImage, toPin, toPullProgress, toUnpackedImage } from "./wire.ts";

export interface ImageDeps {
  readonly images: Images;
  /** Taken where a request names no snapshotter. */
  readonly defaultSnapshotter: string;
}

export function imageService({ images, defaultSnapshotter }: ImageDeps): Implementation {
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
    pullImage: (request, context) => pull(images, defaultSnapshotter, request, context),
  });
}

async function* pull(
  images: Images,
  defaultSnapshotter: string,
  { namespace, image, snapshotter, skipUnpack, lease }: PullImageRequest,
  context: CallContext,
): AsyncGenerator<PullImageResponse> {
  const request = {
    namespace,
    image,
    snapshotter: snapshotter || defaultSnapshotter,
    unpack: !skipUnpack,
    ...(lease === "" ? {} : { lease }),
  };
  const pulling = followed(context.signal, (onProgress: (progress: PullProgress) => void, signal) =>
    images.pull({ ...request, signal, onProgress }),
  );
  for await (const step of pulling) {
    const event =
      "done" in step
        ? { case: "done" as const, value: toUnpackedImage(step.done) }
        : { case: "progress" as const, value: toPullProgress(step.progress) };
    yield create(PullImageResponseSchema, { event });
  }
}
