/** The image service with its pulls and collections counted and timed, whoever asks for them. */
import type { Images } from "@berth/images";
import { observed, type OperationObserver } from "./operations.ts";

export function observedImages(images: Images, observer: OperationObserver): Images {
  return {
    leases: images.leases,
    pins: images.pins,
    gc: {
      run: (request) => {
        if (request?.dryRun === true) return images.gc.run(request);
        return observed(observer, "collect_garbage", () => images.gc.run(request));
      },
      counters: () => images.gc.counters(),
      changes: () => images.gc.changes(),
      isDiskPressing: () => images.gc.isDiskPressing(),
      isQuotaDue: () => images.gc.isQuotaDue(),
    },
    pull: (request) => observed(observer, "pull_image", () => images.pull(request)),
    collect: () => observed(observer, "collect_garbage", () => images.collect()),
    unpacked: (namespace, image, snapshotter) => images.unpacked(namespace, image, snapshotter),
    get: (namespace, image) => images.get(namespace, image),
    list: (namespace, filters) => images.list(namespace, filters),
    tag: (request) => images.tag(request),
    transfer: images.transfer,
    inspection: images.inspection,
    authorise: (namespace, image, signal) => images.authorise(namespace, image, signal),
    remove: (namespace, image) => images.remove(namespace, image),
    [Symbol.asyncDispose]: () => images[Symbol.asyncDispose](),
  };
}
