/**
 * What a user asks of a container beyond its image: the input of {@link generateSpec}. Plain data, not yet validated; names
 * and meanings are those of Kubernetes where it has them. Errors name fields under `spec.`, e.g. `spec.mounts[1].source`.
 */
import type { ContainerInputMode } from "../runtime.ts";

export interface ContainerConfig {
  /** Replaces the image's Entrypoint, and drops its Cmd unless `args` is given, too. */
  readonly command?: readonly string[];
  /** Replaces the image's Cmd. */
  readonly args?: readonly string[];
  /** Put over the image's environment: a name that is there keeps its place, a new one follows; the last of a name wins. */
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly workingDir?: string;
  /** `user`, `uid`, `user:group`, `uid:gid`; names are looked up in the image. Default: the image's User, then root. */
  readonly user?: string;
  readonly additionalGroups?: readonly number[];
  readonly terminal?: boolean;
  /** Default `none`. */
  readonly input?: ContainerInputMode;
  readonly hostname?: string;
  readonly mounts?: readonly ContainerMount[];
  readonly devices?: readonly ContainerDevice[];
  /** With or without `CAP_`, any case; `ALL` stands for all that the agent has. Drops apply before adds, except drop of a single name over add of `ALL`. */
  readonly capabilities?: { readonly add?: readonly string[]; readonly drop?: readonly string[] };
  /** All of the agent's capabilities and devices; no seccomp, masks or read-only kernel file systems. */
  readonly privileged?: boolean;
  /** Default: true unless privileged. */
  readonly noNewPrivileges?: boolean;
  readonly readOnlyRootfs?: boolean;
  readonly rlimits?: readonly { readonly type: string; readonly soft: number; readonly hard: number }[];
  /** Default: the usual ones of /proc and /sys; `[]` masks nothing. */
  readonly maskedPaths?: readonly string[];
  readonly readonlyPaths?: readonly string[];
  /** Default `default`; a file is an absolute path on the host to a profile of moby's schema. */
  readonly seccomp?: "default" | "unconfined" | { readonly file: string };
  /** A profile loaded on the host, or `unconfined`. Refused on a host without AppArmor. */
  readonly apparmorProfile?: string;
  /** A process label (`user:role:type:level`). Refused on a host without SELinux. */
  readonly selinuxLabel?: string;
  readonly resources?: ContainerResources;
  readonly annotations?: Readonly<Record<string, string>>;
}

export type ContainerMount =
  | {
      readonly type: "bind";
      readonly source: string;
      readonly destination: string;
      readonly readOnly?: boolean;
      /** Default `private`. */
      readonly propagation?: "private" | "hostToContainer" | "bidirectional";
    }
  | {
      readonly type: "tmpfs";
      readonly destination: string;
      readonly sizeBytes?: number;
      /** Default 0o1777. */
      readonly mode?: number;
      readonly readOnly?: boolean;
    };

export interface ContainerDevice {
  readonly hostPath: string;
  /** Default: `hostPath`. */
  readonly containerPath?: string;
  /** Of `r`, `w`, `m`; default `rwm`. */
  readonly permissions?: string;
}

export interface ContainerResources {
  readonly cpuQuotaMicros?: number;
  /** Default 100,000 when a quota is given. */
  readonly cpuPeriodMicros?: number;
  readonly cpuShares?: number;
  /** Memory and swap together: a container does not swap. */
  readonly memoryBytes?: number;
  readonly pids?: number;
}
