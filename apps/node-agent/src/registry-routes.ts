/**
 * The controller's word on how registries are reached (RegistryMirror), for the registry client.
 *
 * Invariants:
 *  1. It is on disk before it holds: after a restart it holds also while the controller is away.
 *  2. A set older than the one taken, of the same store, is refused.
 *  3. A mirror that cannot be used, because a file it names is not on this node, fails the pulls that need it, by its name.
 *     It is never left out: that would send them elsewhere without a word.
 */
import { readFileSync } from "node:fs";
import { fromJson, toJson, type JsonValue } from "@bufbuild/protobuf";
import { StatusError, type Logger } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import { RegistryMirrorSchema, type MirrorClient, type RegistryMirror } from "@berth/proto";
import { routeOfMirror, type ClientCertificate, type RegistryRoute } from "@berth/registry";
import type { Origin } from "./engine/intent.ts";

export interface MirrorSet extends Origin {
  readonly mirrors: readonly RegistryMirror[];
}

interface Entry {
  readonly mirror: RegistryMirror;
  /** Made at its first use; the same object until the mirror changes, which lets the client keep its connections. */
  route?: RegistryRoute;
}

export class RegistryRoutes {
  readonly #metadata: Metadata;
  readonly #logger: Logger;
  #applied: Origin;
  #entries: ReadonlyMap<string, Entry>;

  constructor(metadata: Metadata, logger: Logger) {
    this.#metadata = metadata;
    this.#logger = logger;
    const row = metadata.get("SELECT store_epoch, revision, mirrors FROM registry_mirrors");
    this.#applied = { storeEpoch: String(row?.["store_epoch"] ?? ""), revision: Number(row?.["revision"] ?? 0) };
    const stored = JSON.parse(String(row?.["mirrors"] ?? "[]")) as JsonValue[];
    this.#entries = entriesOf(
      stored.map((json) => fromJson(RegistryMirrorSchema, json, { ignoreUnknownFields: true })),
    );
  }

  /** Epoch "" and revision 0 before the first set. */
  applied(): Origin {
    return this.#applied;
  }

  /** Names of the mirrors. */
  names(): readonly string[] {
    return [...this.#entries.values()].map(({ mirror }) => mirror.metadata?.name ?? "");
  }

  /** Does the controller have another set than this one? */
  isBehind({ storeEpoch, revision }: Origin): boolean {
    if (storeEpoch === this.#applied.storeEpoch) return revision > this.#applied.revision;
    // A store without any mirror has nothing to tell to a node that has none.
    return revision > 0 || this.#applied.revision > 0;
  }

  async take({ storeEpoch, revision, mirrors }: MirrorSet): Promise<"taken" | "refused"> {
    if (storeEpoch === this.#applied.storeEpoch && revision < this.#applied.revision) {
      this.#logger.error({ applied: this.#applied.revision, got: revision }, "mirrors went backwards: refused");
      return "refused";
    }
    const stored = JSON.stringify(mirrors.map((mirror) => toJson(RegistryMirrorSchema, mirror)));
    const sql = "INSERT OR REPLACE INTO registry_mirrors (one, store_epoch, revision, mirrors) VALUES (1, ?, ?, ?)";
    await this.#metadata.transact([{ sql, params: [storeEpoch, revision, stored] }]);
    this.#applied = { storeEpoch, revision };
    this.#entries = entriesOf(mirrors);
    this.#logger.info({ storeEpoch, revision, mirrors: mirrors.length }, "registry mirrors taken over");
    return "taken";
  }

  /** The registry's route, or that of `_default`. @throws FAILED_PRECONDITION `REGISTRY_CONFIG_UNREADABLE` */
  readonly route = (registry: string): RegistryRoute | undefined => {
    const entry = this.#entryOf(registry);
    if (entry === undefined) return undefined;
    return (entry.route ??= routeOfMirror(entry.mirror, (client) => readClient(entry.mirror, client)));
  };

  /** Bytes per second of transfers from the registry. */
  readonly rate = (registry: string): number | undefined => {
    const rate = this.#entryOf(registry)?.mirror.spec?.maxBytesPerSecond;
    return rate === undefined ? undefined : Number(rate);
  };

  #entryOf(registry: string): Entry | undefined {
    return this.#entries.get(registry) ?? this.#entries.get("_default");
  }
}

function entriesOf(mirrors: readonly RegistryMirror[]): ReadonlyMap<string, Entry> {
  return new Map(mirrors.map((mirror) => [mirror.spec?.registry ?? "", { mirror }]));
}

function readClient(mirror: RegistryMirror, { certFile, keyFile }: MirrorClient): ClientCertificate {
  const read = (path: string): string => {
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      const { reason } = StatusError.from(error);
      const text = `registry mirror "${mirror.metadata?.name}": ${path} cannot be read on this node (${reason})`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "REGISTRY_CONFIG_UNREADABLE", cause: error });
    }
  };
  return { cert: read(certFile), key: read(keyFile) };
}
