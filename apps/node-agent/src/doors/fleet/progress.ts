/** Progress of pulls, as news: throttled, never journaled (D4), and dropped while nobody can hear it. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { Logger } from "@berth/base";
import { progressSubject, type Bus } from "@berth/bus";
import type { PullProgress } from "@berth/images";
import { ImageProgressSchema, ProgressReportSchema, type ImageProgress } from "@berth/proto";

export interface ProgressReporter extends Disposable {
  report(progress: PullProgress): void;
}

export function startProgressReporter(
  deps: { readonly bus: Bus; readonly node: string; readonly logger: Logger },
  everyMs = 500,
): ProgressReporter {
  const { bus, node, logger } = deps;
  const news = new Map<string, ImageProgress>();
  let timer: NodeJS.Timeout | undefined;

  const send = (): void => {
    timer = undefined;
    const images = [...news.values()];
    news.clear();
    if (bus.state !== "connected") return;
    try {
      const report = create(ProgressReportSchema, { node, images });
      bus.publish(progressSubject(node), toBinary(ProgressReportSchema, report));
    } catch (error) {
      logger.debug({ err: error }, "progress was not sent");
    }
  };

  return {
    report(progress) {
      news.set(`${progress.namespace} ${progress.image}`, imageProgress(progress));
      timer ??= setTimeout(send, everyMs).unref();
    },
    [Symbol.dispose]() {
      clearTimeout(timer);
    },
  };
}

function imageProgress({ namespace, image, phase, offsetBytes, totalBytes, layers }: PullProgress): ImageProgress {
  const done = layers.filter(({ state }) => state === "done" || state === "exists").length;
  return create(ImageProgressSchema, {
    namespace,
    image,
    progress: {
      phase,
      offsetBytes: BigInt(offsetBytes),
      totalBytes: BigInt(totalBytes),
      layersDone: done,
      layersTotal: layers.length,
    },
  });
}
