/** Collection by the host door. */
import { create } from "@bufbuild/protobuf";
import type { Images } from "@berth/images";
import { GcService, RunGcResponseSchema } from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";

export function gcService(images: Pick<Images, "collect">): Implementation {
  return implement(GcService, {
    runGc: async () => {
      const { blobs, snapshots, freedBytes } = await images.collect();
      return create(RunGcResponseSchema, {
        blobs: BigInt(blobs),
        snapshots: BigInt(snapshots),
        freedBytes: BigInt(freedBytes),
      });
    },
  });
}
