/**
 * The host door: what operators on this host see and do, by `berthd images ls` and its like. A thin translation of
 * berth.host.v1 onto the engine's libraries.
 *
 * Invariants:
 *  1. The socket is root's alone (0600): whoever reaches it may do everything on this host anyway, so there are no tokens.
 *  2. Every request names its namespace, and is answered from that namespace's view only (D7). Collection, verification,
 *     the node's own status and, asked for as `-`, its list of tasks alone are the whole host's.
 */
import type { Logger } from "@berth/base";
import type { ContentStore } from "@berth/content";
import { loggingInterceptor, Invoker, serveGrpc, validationInterceptor } from "@berth/rpc/grpc";
import { careService, type CareDeps } from "./care.ts";
import { contentService } from "./content.ts";
import { gcService } from "./gc.ts";
import { imageService } from "./images.ts";
import { leaseService } from "./leases.ts";
import { nodeService, type NodeDeps } from "./node.ts";
import type { TransferDeps } from "./transfers.ts";
import { snapshotService, type SnapshotDeps } from "./snapshots.ts";
import { taskService, type TaskDeps } from "./tasks.ts";

export interface HostDoorDeps extends Pick<TransferDeps, "images">, SnapshotDeps, NodeDeps, TaskDeps, CareDeps {
  readonly content: ContentStore;
  readonly logger: Logger;
}

export interface HostDoorConfig {
  readonly socketPath: string;
  /** How long calls in flight may go on when the agent ends. */
  readonly graceMs?: number;
}

/** @throws UNAVAILABLE `LISTEN_FAILED` */
export async function openHostDoor(deps: HostDoorDeps, config: HostDoorConfig): Promise<AsyncDisposable> {
  const defaultSnapshotter = deps.snapshots[0]!.snapshotter.name;
  const services = [
    imageService({ ...deps, defaultSnapshotter }),
    contentService(deps.content),
    snapshotService(deps),
    gcService(deps.images.gc),
    leaseService(deps.images.leases),
    nodeService(deps),
    taskService(deps),
    careService(deps),
  ];
  const invoker = new Invoker(services, [loggingInterceptor(deps.logger), validationInterceptor], {
    program: "berthd",
    callersAreTrusted: true,
  });
  return await serveGrpc({ invoker }, { graceMs: 2_000, ...config });
}
