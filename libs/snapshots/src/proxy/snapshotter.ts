/**
 * A snapshotter in another process, spoken to as containerd speaks to its proxy plugins: `snapshots.v1` on a unix socket.
 * Also containerd itself is one.
 *
 * Invariants:
 *  1. The other side's records are the only ones. All that is here is the connection.
 *  2. Every snapshot carries `containerd.io/gc.root`, so that a containerd behind the socket does not collect what it knows
 *     no user of. Our callers do not see that label.
 *  3. Errors have the reasons of the contract. The wire carries codes only, and servers differ in them: where a code may
 *     mean several things, the records are asked, never the message.
 *
 * Durability is the other side's: `sync` puts the file systems on disk that we were given directories of.
 */
import { closeSync, existsSync, lstatSync } from "node:fs";
import { dirname } from "node:path";
import { hasCode, silentLogger, StatusError, type Logger, type StatusCode } from "@berth/base";
import { openDirectory, syncfs } from "@berth/linux";
import { Snapshots } from "@berth/proto/containerd";
import { writableDirectory } from "../mounts.ts";
import { assertSupported, resolveOptions, type MissingQuota } from "../options.ts";
import { parentsFirst } from "../order.ts";
import type {
  CommitOptions,
  Mount,
  PrepareOptions,
  Snapshotter,
  SnapshotInfo,
  SnapshotKind,
  SnapshotOptions,
  SnapshotterCapabilities,
  SnapshotUsage,
} from "../snapshotter.ts";
import { infoFromWire, mountsFromWire } from "./convert.ts";
import { connectTo, type Connection } from "./transport.ts";

/** What containerd's configuration calls them; the wire does not tell. */
export type ProxyCapability = "rebase" | "quota" | "remap-ids";

export interface ProxyConfig {
  /** What this agent calls it. */
  readonly name: string;
  /** A unix socket's path. */
  readonly address: string;
  /** What the other side calls it. Default: `name`. */
  readonly snapshotter?: string;
  /** containerd's namespace in which our snapshots are. Default: `berth`. */
  readonly namespace?: string;
  readonly capabilities?: readonly ProxyCapability[];
}

export interface ProxyDeps {
  readonly logger?: Logger;
  readonly missingQuota?: MissingQuota;
}

export const PROXY_NAMESPACE = "berth";

const GC_ROOT = "containerd.io/gc.root";

export async function openProxy(deps: ProxyDeps, config: ProxyConfig): Promise<Snapshotter> {
  const connection = await connectTo(config.address, config.namespace ?? PROXY_NAMESPACE);
  return new ProxySnapshotter(connection, deps, config);
}

type Failure = (error: StatusError) => string | undefined | Promise<string | undefined>;

class ProxySnapshotter implements Snapshotter {
  readonly name: string;
  readonly capabilities: SnapshotterCapabilities;
  readonly #connection: Connection;
  readonly #remote: string;
  readonly #logger: Logger;
  readonly #missingQuota: MissingQuota;
  /** By device: the top of a file system that was written to. */
  readonly #written = new Map<number, string>();

  constructor(connection: Connection, deps: ProxyDeps, config: ProxyConfig) {
    this.#connection = connection;
    this.#logger = deps.logger ?? silentLogger;
    this.#missingQuota = deps.missingQuota ?? "refuse";
    this.name = config.name;
    this.#remote = config.snapshotter ?? config.name;
    const can = new Set(config.capabilities);
    this.capabilities = {
      rebase: can.has("rebase"),
      quota: can.has("quota"),
      idmap: can.has("remap-ids"),
      countsInodes: true,
    };
  }

  async stat(key: string): Promise<SnapshotInfo> {
    const { info } = await this.#told(key, missing, this.#connection.call(Snapshots.method.stat, this.#of(key)));
    return shown(infoFromWire(info));
  }

  async update(key: string, labels: Readonly<Record<string, string>>): Promise<SnapshotInfo> {
    resolveOptions({ labels });
    const request = {
      snapshotter: this.#remote,
      info: { name: key, labels: rooted(labels) },
      updateMask: { paths: ["labels"] },
    };
    const { info } = await this.#told(key, missing, this.#connection.call(Snapshots.method.update, request));
    return shown(infoFromWire(info));
  }

  async usage(key: string): Promise<SnapshotUsage> {
    const answer = await this.#told(key, missing, this.#connection.call(Snapshots.method.usage, this.#of(key)));
    return { sizeBytes: Number(answer.size), inodes: Number(answer.inodes) };
  }

  async mounts(key: string): Promise<readonly Mount[]> {
    const failure: Failure = (error) => (hasCode(error, "FAILED_PRECONDITION") ? "SNAPSHOT_COMMITTED" : missing(error));
    const { mounts } = await this.#told(key, failure, this.#connection.call(Snapshots.method.mounts, this.#of(key)));
    return this.#noted(mountsFromWire(mounts));
  }

  async prepare(key: string, parent: string, options: PrepareOptions = {}): Promise<readonly Mount[]> {
    const { snapshotter, name, capabilities } = {
      snapshotter: this.#remote,
      name: this.name,
      capabilities: this.capabilities,
    };
    assertNamed(key);
    const wanted = assertSupported(key, resolveOptions(options), {
      snapshotter: name,
      capabilities,
      missingQuota: this.#missingQuota,
      reasons: { quota: UNDECLARED, idmap: UNDECLARED },
      logger: this.#logger,
    });
    const request = { snapshotter, key, parent, labels: rooted(wanted.labels) };
    const { mounts } = await this.#created(key, parent, this.#connection.call(Snapshots.method.prepare, request));
    return this.#noted(mountsFromWire(mounts));
  }

  async view(key: string, parent: string, options: SnapshotOptions = {}): Promise<readonly Mount[]> {
    assertNamed(key);
    const request = { snapshotter: this.#remote, key, parent, labels: rooted(options.labels) };
    const { mounts } = await this.#created(key, parent, this.#connection.call(Snapshots.method.view, request));
    return mountsFromWire(mounts);
  }

  #created<T>(key: string, parent: string, promise: Promise<T>): Promise<T> {
    return this.#told(
      key,
      async (error) => {
        if (hasCode(error, "ALREADY_EXISTS")) return "SNAPSHOT_EXISTS";
        // containerd calls a parent that is not committed an invalid argument, others a failed precondition.
        if (!hasCode(error, "NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION") || parent === "") return undefined;
        const kind = await this.#kindOf(parent);
        return kind === "committed" ? undefined : "SNAPSHOT_PARENT_MISSING";
      },
      promise,
    );
  }

  async commit(name: string, key: string, options: CommitOptions = {}): Promise<void> {
    assertNamed(name);
    const parent = await this.#parentAtCommit(key, options.parent);
    const request = { snapshotter: this.#remote, name, key, labels: rooted(options.labels), parent };
    await this.#told(
      key,
      async (error) => {
        if (hasCode(error, "ALREADY_EXISTS")) return "SNAPSHOT_EXISTS";
        const kind = await this.#kindOf(key);
        if (kind === undefined) return "SNAPSHOT_MISSING";
        if (kind !== "active") return "SNAPSHOT_NOT_ACTIVE";
        return parent === "" || (await this.#kindOf(parent)) === "committed" ? undefined : "SNAPSHOT_PARENT_MISSING";
      },
      this.#connection.call(Snapshots.method.commit, request),
    );
  }

  /** What goes into the request: empty unless the snapshot is to be given one. */
  async #parentAtCommit(key: string, wanted: string | undefined): Promise<string> {
    if (wanted === undefined) return "";
    const { parent } = await this.stat(key);
    if (wanted === parent) return "";
    const refuse = (code: "INVALID_ARGUMENT" | "UNIMPLEMENTED", reason: string, why: string): StatusError =>
      new StatusError(code, `snapshot "${key}": ${why}`, { reason });
    if (parent !== "") throw refuse("INVALID_ARGUMENT", "SNAPSHOT_PARENT_FIXED", `has parent "${parent}"`);
    if (this.capabilities.rebase) return wanted;
    throw refuse("UNIMPLEMENTED", "SNAPSHOT_REBASE_UNSUPPORTED", `${this.name} cannot give it a parent at commit`);
  }

  async remove(key: string): Promise<void> {
    const failure: Failure = (error) =>
      hasCode(error, "FAILED_PRECONDITION") ? "SNAPSHOT_HAS_CHILDREN" : missing(error);
    await this.#told(key, failure, this.#connection.call(Snapshots.method.remove, this.#of(key)));
  }

  async sync(): Promise<void> {
    for (const directory of this.#written.values()) {
      const fd = openDirectory(directory);
      try {
        await syncfs(fd);
      } finally {
        closeSync(fd);
      }
    }
  }

  async *walk(filter: { readonly parent?: string; readonly kind?: SnapshotKind } = {}): AsyncIterable<SnapshotInfo> {
    const { parent, kind } = filter;
    // A saving only: what comes is looked at again.
    const filters = parent === undefined || parent === "" ? [] : [`parent==${JSON.stringify(parent)}`];
    const found: SnapshotInfo[] = [];
    const answers = this.#connection.stream(Snapshots.method.list, { snapshotter: this.#remote, filters });
    for await (const { info } of answers) found.push(...info.map((each) => shown(infoFromWire(each))));
    for (const info of parentsFirst(found)) {
      if ((kind ?? info.kind) === info.kind && (parent ?? info.parent) === info.parent) yield info;
    }
  }

  /** How many it swept the other side does not tell: 0. */
  async cleanup(): Promise<number> {
    try {
      await this.#connection.call(Snapshots.method.cleanup, { snapshotter: this.#remote });
    } catch (error) {
      // Not every snapshotter has anything to sweep.
      if (!hasCode(error, "UNIMPLEMENTED")) throw error;
    }
    return 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection[Symbol.dispose]();
  }

  #of(key: string): { snapshotter: string; key: string } {
    return { snapshotter: this.#remote, key };
  }

  async #kindOf(key: string): Promise<SnapshotKind | undefined> {
    try {
      return (await this.stat(key)).kind;
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return undefined;
      throw error;
    }
  }

  /** Gives an error the contract's reason, and the code that belongs to it. */
  async #told<T>(key: string, failure: Failure, promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      const status = StatusError.from(error);
      const reason = hasCode(status, "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
        ? undefined
        : await failure(status);
      if (reason === undefined) throw status;
      const code = CODES[reason] ?? (status.code === "NOT_FOUND" ? "NOT_FOUND" : "FAILED_PRECONDITION");
      throw new StatusError(code, `snapshot "${key}": ${status.message}`, { reason, cause: status });
    }
  }

  /** Remembers which file systems will be written to; what we cannot see we cannot have written. */
  #noted(mounts: readonly Mount[]): readonly Mount[] {
    let directory = writableDirectory(mounts);
    if (directory === undefined || !existsSync(directory)) return mounts;
    const { dev } = lstatSync(directory);
    if (this.#written.has(dev)) return mounts;
    while (directory !== "/" && lstatSync(dirname(directory)).dev === dev) directory = dirname(directory);
    this.#written.set(dev, directory);
    return mounts;
  }
}

/** The contract's; servers give others (containerd's native one UNKNOWN for a view that is committed). */
const CODES: Readonly<Record<string, StatusCode>> = {
  SNAPSHOT_MISSING: "NOT_FOUND",
  SNAPSHOT_EXISTS: "ALREADY_EXISTS",
};

const UNDECLARED = "its configuration declares no such capability";

const missing: Failure = (error) => (hasCode(error, "NOT_FOUND") ? "SNAPSHOT_MISSING" : undefined);

function rooted(labels: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { ...labels, [GC_ROOT]: "berth" };
}

function shown(info: SnapshotInfo): SnapshotInfo {
  const { [GC_ROOT]: _, ...labels } = info.labels;
  return { ...info, labels };
}

function assertNamed(key: string): void {
  if (key === "") throw StatusError.invalid([{ field: "key", description: "must not be empty" }], "SNAPSHOT_KEY_EMPTY");
}
