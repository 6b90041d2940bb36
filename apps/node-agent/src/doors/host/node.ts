/** The node itself by the host door. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { NodeService, NodeStatusSchema } from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";

export interface NodeDeps {
  readonly status: () => Promise<MessageInitShape<typeof NodeStatusSchema>>;
}

export function nodeService({ status }: NodeDeps): Implementation {
  return implement(NodeService, {
    getStatus: async () => create(NodeStatusSchema, await status()),
  });
}
