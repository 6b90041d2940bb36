/**
 * The contract of networking: a network namespace per task, connected by CNI 1.0 plugins.
 *
 * Invariants:
 *  1. What ADD made is recorded before ADD runs, so that DEL follows even after a crash in between (A6).
 *  2. DEL gets the result that ADD gave, from the record; it is idempotent.
 *  3. A start-up `sweep` releases every record (and every namespace file) that no living container owns.
 */

export type NetworkMode = "bridge" | "host" | "none";

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: "tcp" | "udp";
  readonly hostIp?: string;
}

export interface AttachRequest {
  readonly namespace: string;
  readonly id: string;
  readonly mode: NetworkMode;
  readonly ports?: readonly PortMapping[];
}

export interface Attachment {
  readonly namespace: string;
  readonly id: string;
  readonly mode: NetworkMode;
  /** For the OCI spec; undefined for `host`. */
  readonly netnsPath: string | undefined;
  /** IP addresses, without a prefix length. */
  readonly addresses: readonly string[];
}

export interface Network extends AsyncDisposable {
  /** Idempotent per (namespace, id). @throws FAILED_PRECONDITION `CNI_FAILED` with the plugin's own message. */
  attach(request: AttachRequest): Promise<Attachment>;
  get(namespace: string, id: string): Promise<Attachment | undefined>;
  /** @throws FAILED_PRECONDITION when the plugin finds the attachment damaged. */
  check(namespace: string, id: string): Promise<void>;
  detach(namespace: string, id: string): Promise<void>;
  /** Releases what `alive` does not name; returns how many. */
  sweep(alive: (namespace: string, id: string) => boolean): Promise<number>;
}
