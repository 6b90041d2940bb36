import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import type { Images, UnpackedImage } from "@berth/images";
import { imageStep } from "./image.ts";
import type { StartContext } from "./step.ts";

const refusal = new StatusError("FAILED_PRECONDITION", "refused by the image policy", { reason: "IMAGE_UNSIGNED" });

/** The step over images that are here or not, allowed or not. */
function start(state: { readonly present: boolean; readonly allowed: boolean }) {
  const asked: string[] = [];
  const image = {} as UnpackedImage;
  const images = {
    async unpacked() {
      if (!state.present) throw new StatusError("NOT_FOUND", "not here");
      return image;
    },
    async authorise(namespace: string, name: string) {
      asked.push(`authorise ${namespace} ${name}`);
      if (!state.allowed) throw refusal;
    },
    async pull({ namespace, image: name }: { readonly namespace: string; readonly image: string }) {
      asked.push(`pull ${namespace} ${name}`);
      if (!state.allowed) throw refusal;
      return image;
    },
  } as unknown as Images;
  const context = {
    container: { namespace: "shop", plan: { image: "app:1", snapshotter: "overlayfs" } },
    facts: {},
    signal: new AbortController().signal,
    onPulling: () => {},
    onWarning: () => {},
  } as unknown as StartContext;
  const step = imageStep({ images, onPullProgress: () => {} });
  return { asked, context, image, run: () => step.run(context) };
}

test("imageStep asks the policy at each start of an image that is here", async () => {
  const allowed = start({ present: true, allowed: true });
  await allowed.run();
  assert.equal(allowed.context.facts.image, allowed.image);
  assert.deepEqual(allowed.asked, ["authorise shop app:1"]);
  const refused = start({ present: true, allowed: false });
  await assert.rejects(refused.run(), refusal);
  assert.equal(refused.context.facts.image, undefined);
});

test("imageStep leaves the question to the pull where the image is not here", async () => {
  const pulled = start({ present: false, allowed: true });
  await pulled.run();
  assert.deepEqual(pulled.asked, ["pull shop app:1"]);
});
