/**
 * One step of starting a container. The order is in `index.ts`; removal runs the undos in reverse.
 *
 * Invariants of every step:
 *  1. `run` is idempotent: after a crash all steps run again from the first, over what is there.
 *  2. `undo` is idempotent, needs nothing but the container's names, and succeeds when there is nothing to undo.
 *  3. What `run` makes is named by the container (see `container.ts`), whose record was durable before (A6).
 */
import type { Images, PullProgress, UnpackedImage } from "@berth/images";
import type { CgroupLayout } from "@berth/linux";
import type { Attachment, Network } from "@berth/network";
import type { HostFacts, Runtime } from "@berth/runtime";
import type { Snapshotter } from "@berth/snapshots";
import type { LeaseGate } from "../../stopper/lease-gate.ts";
import type { Stopper } from "../../stopper/stopper.ts";
import type { Container } from "../container.ts";

/** What earlier steps of the same start have found out. */
export interface StartFacts {
  image?: UnpackedImage;
  attachment?: Attachment;
}

export interface StartContext {
  readonly container: Container;
  readonly facts: StartFacts;
  readonly signal: AbortSignal;
  /** The image is not here; it is being pulled now. */
  readonly onPulling: () => void;
  /** Something that was asked for is not so; the start goes on. `reason` is a stable word. */
  readonly onWarning: (reason: string, message: string) => void;
}

export type StepName = "image" | "snapshot" | "bundle" | "rootfs" | "network" | "spec" | "fence" | "create" | "start";

export interface Step {
  readonly name: StepName;
  /** The stable word for a failure of this step. */
  readonly failure: string;
  run(context: StartContext): Promise<void>;
  undo(container: Container): Promise<void>;
}

/** What the steps work with. */
export interface StepDeps {
  readonly images: Images;
  readonly snapshotter: (namespace: string, name: string) => Snapshotter;
  readonly runtime: (handler: string) => Runtime;
  readonly network: Network;
  readonly host: () => Promise<HostFacts>;
  readonly onPullProgress: (progress: PullProgress) => void;
  /** What ends fenced containers. */
  readonly stopper: Stopper;
  readonly gate: LeaseGate;
  readonly cgroups: CgroupLayout;
  /** Of writable layers whose plan sets no bound. */
  readonly defaultDiskBytes?: number | undefined;
  /** Beyond this size the supervisor's log file is cut. */
  readonly logMaxBytes?: number;
}
