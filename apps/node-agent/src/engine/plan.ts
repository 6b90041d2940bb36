/**
 * What the engine is asked to run: one container, whichever door asked for it. Doors translate their own shapes to this and
 * the engine knows no other. Stored as JSON with the execution, so that a restarted agent goes on from it.
 */
import type { NetworkMode, PortMapping } from "@berth/network";
import type { ContainerConfig } from "@berth/runtime";
import type { HealthPlan } from "./health/probe-plan.ts";

export interface ContainerPlan {
  /** As the user wrote it. */
  readonly image: string;
  readonly snapshotter: string;
  readonly handler: string;
  readonly container: ContainerConfig;
  readonly hostname: string;
  readonly network: { readonly mode: NetworkMode; readonly ports: readonly PortMapping[] };
  /** The most bytes in the writable layer. Absent: the node's `defaultDiskBytes`, if it has one. */
  readonly diskBytes?: number;
  /** The writable layer need not survive a crash of the host. */
  readonly volatileRootfs?: boolean;
  /** Default: the image's, else SIGTERM. */
  readonly stopSignal?: string;
  readonly stopGraceMs: number;
  /** What its health is asked by. Absent: to run is to be well. */
  readonly health?: HealthPlan;
  /** How long it may run before it is stopped and has failed. Absent: for ever. */
  readonly activeDeadlineMs?: number;
  /** The node's stopper ends it when the lease runs out (`stopper/stopper.ts`); it does not run without. */
  readonly fence?: boolean;
}
