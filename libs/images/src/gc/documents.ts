/**
 * What manifests, indexes and configs refer to, by digest. Their bytes never change, so that each is read and parsed once, and
 * from then on a row says it. What cannot be parsed refers to nothing.
 */
import { createHash } from "node:crypto";
import { digestAlgorithm, hasCode, toDigest, type Digest, type Logger } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Metadata, Statement } from "@berth/metadata";
import { chainIds, MANIFEST_LIMITS, parseImageConfig, parseManifest } from "@berth/model";
import { insertEdges, type BlobEdges, type GcRows } from "./rows.ts";

const OPAQUE: BlobEdges = { kind: "opaque", targets: [] };
const WRITE_AT = 64;

export class Documents {
  readonly #content: ContentStore;
  readonly #metadata: Metadata;
  readonly #rows: GcRows;
  readonly #logger: Logger;
  readonly #learnt: Statement[] = [];

  constructor(content: ContentStore, metadata: Metadata, rows: GcRows, logger: Logger) {
    this.#logger = logger;
    this.#content = content;
    this.#metadata = metadata;
    this.#rows = rows;
  }

  /** What the row says; undefined when the bytes are to be `read`. */
  known(digest: string): BlobEdges | undefined {
    return this.#rows.edges(digest);
  }

  /** @param sizeBytes of the blob, if known: what is too large for a document is none, and is not read */
  async read(namespace: string, digest: Digest, sizeBytes: number | undefined): Promise<BlobEdges> {
    const edges = (sizeBytes ?? 0) > MANIFEST_LIMITS.configBytes ? OPAQUE : await this.#parse(namespace, digest);
    if (edges === undefined) return OPAQUE;
    this.#learnt.push(insertEdges(digest, edges));
    if (this.#learnt.length >= WRITE_AT) await this.flush();
    return edges;
  }

  async flush(): Promise<void> {
    if (this.#learnt.length > 0) await this.#metadata.transact(this.#learnt.splice(0));
  }

  /** Undefined for what says nothing today: a blob that is not there, is no document by its size, or is damaged. */
  async #parse(namespace: string, digest: Digest): Promise<BlobEdges | undefined> {
    let bytes: Uint8Array;
    try {
      bytes = await this.#content.readAll(namespace, digest, MANIFEST_LIMITS.configBytes);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND", "RESOURCE_EXHAUSTED")) return undefined;
      throw error;
    }
    const algorithm = digestAlgorithm(digest);
    if (toDigest(createHash(algorithm).update(bytes), algorithm) === digest) {
      return manifestEdges(bytes, digest) ?? configEdges(bytes, digest) ?? OPAQUE;
    }
    this.#logger.error({ namespace, digest }, "a blob is damaged; what it refers to is not known; verify the store");
    return undefined;
  }
}

function manifestEdges(bytes: Uint8Array, digest: Digest): BlobEdges | undefined {
  return unlessInvalid(() => {
    const document = parseManifest(bytes, digest);
    if (document.kind === "index") {
      return { kind: "index", targets: document.index.manifests.map((child) => child.digest) };
    }
    const { config, layers } = document.manifest;
    return { kind: "manifest", targets: [config.digest, ...layers.map((layer) => layer.digest)] };
  });
}

function configEdges(bytes: Uint8Array, digest: Digest): BlobEdges | undefined {
  return unlessInvalid(() => ({
    kind: "config",
    targets: chainIds(parseImageConfig(bytes, digest).rootfs.diff_ids),
  }));
}

function unlessInvalid(parse: () => BlobEdges): BlobEdges | undefined {
  try {
    return parse();
  } catch (error) {
    if (hasCode(error, "INVALID_ARGUMENT")) return undefined;
    throw error;
  }
}
