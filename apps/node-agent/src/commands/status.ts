/** `berthd status`: how the node is, and how it stands with its controller. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { formatBytes } from "@berth/base/terminal";
import { NodeService, NodeStatusSchema, type NodeStatus } from "@berth/proto/host";
import { ageOf, printFields, printJson, timeOf, type Session } from "./session.ts";

export async function status(session: Session): Promise<void> {
  const node = await session.client(NodeService).getStatus({});
  if (session.json) return printJson(session, NodeStatusSchema, node);
  const used = node.diskTotalBytes - node.diskAvailableBytes;
  const percent = node.diskTotalBytes === 0n ? 0 : Number((used * 100n) / node.diskTotalBytes);
  printFields(session, [
    ["Node", node.node],
    ["Version", node.version],
    ["Up", ageOf(node.startedAt)],
    ...standingLines(node),
    ["Root", node.root],
    ["State", node.state],
    ["Disk", `${formatBytes(node.diskAvailableBytes)} of ${formatBytes(node.diskTotalBytes)} free, ${percent} % used`],
    ["Content", `${node.blobs} blobs, ${formatBytes(node.contentBytes)}`],
    ["Runtimes", node.runtimeHandlers.join(", ")],
    ["Mirrors", node.registryMirrors.join(", ") || "none"],
    ["Running", `${node.running} containers`],
  ]);
}

/** Of a node that is cut off: since when, what goes on, and when what is fenced has ended. */
export function standingLines(node: NodeStatus): (readonly [name: string, value: string])[] {
  const { leaseHeld, leaseRefused, cutOffSince, heardAt, leaseUntil, bus, fenced, fencedUntil, running } = node;
  // While the node is cut off and nothing is listed, the stopper has no work and ends.
  const idle = !leaseHeld && fenced === 0;
  const stopper =
    node.stopperProblem === "" || idle ? [] : [["Stopper", `does not work: ${node.stopperProblem}`] as const];
  if (leaseHeld) return [["Controller", `answers; the lease lasts until ${timeOf(leaseUntil)}`], ...stopper];
  const heard = heardAt === undefined ? "not heard since the agent started" : `last heard ${timeOf(heardAt)}`;
  const why = leaseRefused === "" ? bus : `refused: ${leaseRefused}`;
  const free = running - fenced;
  const ended = fencedUntil !== undefined && timestampDate(fencedUntil).getTime() <= Date.now();
  const until =
    fencedUntil === undefined
      ? ", of which nothing bounds the end"
      : `, ${ended ? "which should have ended by now:" : "ended by"} T = ${timeOf(fencedUntil)}`;
  return [
    ["Controller", `cut off since ${timeOf(cutOffSince)}, ${ageOf(cutOffSince)} ago (${heard}; ${why})`],
    ...(fenced === 0 ? [] : [["Fenced", `${counted(fenced)} (onNodeLoss: stopThenReplace)${until}`] as const]),
    ...(free > 0
      ? [
          [
            "Others",
            `${counted(free)}, which ${free === 1 ? "goes" : "go"} on; the controller shows ${free === 1 ? "it" : "them"} as possibly running`,
          ] as const,
        ]
      : []),
    ...stopper,
  ];
}

const counted = (count: number): string => `${count} ${count === 1 ? "container" : "containers"}`;
