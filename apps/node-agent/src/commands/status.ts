/** `berthd status` */
import { formatBytes } from "@berth/base/terminal";
import { NodeService, NodeStatusSchema } from "@berth/proto/host";
import { ageOf, printFields, printJson, type Session } from "./session.ts";

export async function status(session: Session): Promise<void> {
  const node = await session.client(NodeService).getStatus({});
  if (session.json) return printJson(session, NodeStatusSchema, node);
  const used = node.diskTotalBytes - node.diskAvailableBytes;
  const percent = node.diskTotalBytes === 0n ? 0 : Number((used * 100n) / node.diskTotalBytes);
  printFields(session, [
    ["Node", node.node],
    ["Version", node.version],
    ["Up", ageOf(node.startedAt)],
    ["Controller", node.leaseHeld ? "answers" : `does not answer (${node.bus})`],
    ["Root", node.root],
    ["State", node.state],
    ["Disk", `${formatBytes(node.diskAvailableBytes)} of ${formatBytes(node.diskTotalBytes)} free, ${percent} % used`],
    ["Content", `${node.blobs} blobs, ${formatBytes(node.contentBytes)}`],
    ["Runtimes", node.runtimeHandlers.join(", ")],
    ["Mirrors", node.registryMirrors.join(", ") || "none"],
    ["Running", `${node.running} containers`],
  ]);
}
