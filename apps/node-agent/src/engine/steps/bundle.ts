/** The container's directory. What lies in it goes with it; the root file system is unmounted before. */
import { mkdir, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import { removeBundle } from "@berth/runtime";
import type { Step } from "./step.ts";

export function bundleStep(): Step {
  return {
    name: "bundle",
    failure: "CreateFailed",
    async run({ container }) {
      await mkdir(container.rootfs, { recursive: true, mode: 0o700 });
    },
    async undo({ bundle }) {
      await removeBundle(bundle);
      // The namespace's directory goes with its last bundle; another one in it makes this fail, rightly.
      await rmdir(dirname(bundle)).catch(() => {});
    },
  };
}
