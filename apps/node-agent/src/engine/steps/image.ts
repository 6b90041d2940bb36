/**
 * The image is here, unpacked for the snapshotter and allowed by the namespace's policy as it is now; pulled, and verified on the
 * way, when it is missing. Undo: images outlive containers.
 */
import { hasCode } from "@berth/base";
import type { UnpackedImage } from "@berth/images";
import type { StartContext, Step, StepDeps } from "./step.ts";

export function imageStep({ images, onPullProgress }: Pick<StepDeps, "images" | "onPullProgress">): Step {
  const find = async ({ container }: StartContext): Promise<UnpackedImage | undefined> => {
    const { image, snapshotter } = container.plan;
    try {
      return await images.unpacked(container.namespace, image, snapshotter);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return undefined;
      throw error;
    }
  };
  return {
    name: "image",
    failure: "ImagePullFailed",
    async run(context) {
      const present = await find(context);
      if (present !== undefined) {
        await images.authorise(context.container.namespace, context.container.plan.image, context.signal);
        context.facts.image = present;
        return;
      }
      context.onPulling();
      const { namespace, plan } = context.container;
      const pulled = await images.pull({
        namespace,
        image: plan.image,
        snapshotter: plan.snapshotter,
        signal: context.signal,
        onProgress: onPullProgress,
      });
      // Refuses an artifact, and says why.
      if (pulled.artifactType !== undefined) await images.unpacked(namespace, plan.image, plan.snapshotter);
      context.facts.image = pulled;
    },
    async undo() {},
  };
}
