/** What is known of images that are here, as the host API's messages. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { HistoryEntry, ImageDetails, ImageUsage, LayerDetails, NamespaceUsage, PruneResult } from "@berth/images";
import { formatPlatform } from "@berth/model";
import {
  GetImageHistoryResponseSchema,
  ImageDetailsSchema,
  ImageUsageReportSchema,
  PruneImagesResponseSchema,
  type GetImageHistoryResponse,
  type ImageDetails as ImageDetailsMessage,
  type ImageHistoryEntrySchema,
  type ImageLayerSchema,
  type ImageUsageReport,
  type ImageUsageSchema,
  type PruneImagesResponse,
} from "@berth/proto/host";
import { toDescriptor, toImage } from "./wire.ts";

export function toDetails(details: ImageDetails): ImageDetailsMessage {
  const { config, unpackedBytes, lastUsedAtMs } = details;
  return create(ImageDetailsSchema, {
    image: toImage(details.record),
    names: [...details.names],
    manifest: toDescriptor(details.manifest),
    platforms: details.platforms.map(({ platform, descriptor, present }) => ({
      platform: platform === undefined ? "" : formatPlatform(platform),
      descriptor: toDescriptor(descriptor),
      present,
    })),
    config: details.configDigest,
    configJson: config === undefined ? "" : JSON.stringify(config),
    layers: details.layers.map(toLayer),
    sources: [...details.sources],
    compressedBytes: BigInt(details.compressedBytes),
    ...(unpackedBytes === undefined ? {} : { unpackedBytes: BigInt(unpackedBytes) }),
    verified: details.verified.map(({ kind, by, atMs, current }) => ({ kind, by, at: timestampFromMs(atMs), current })),
    pinned: details.pinned,
    ...timeOf("lastUsedAt", lastUsedAtMs),
  });
}

function toLayer(layer: LayerDetails): MessageInitShape<typeof ImageLayerSchema> {
  const { descriptor, diffId, chainId, present, unpacked, unpackedBytes } = layer;
  const size = unpackedBytes === undefined ? {} : { unpackedBytes: BigInt(unpackedBytes) };
  return { descriptor: toDescriptor(descriptor), diffId, chainId, present, unpacked: [...unpacked], ...size };
}

export function toHistory(entries: readonly HistoryEntry[]): GetImageHistoryResponse {
  return create(GetImageHistoryResponseSchema, { entries: entries.map(toHistoryEntry) });
}

function toHistoryEntry(entry: HistoryEntry): MessageInitShape<typeof ImageHistoryEntrySchema> {
  const { createdAtMs, createdBy, comment, author, empty, layer, sizeBytes } = entry;
  return {
    ...timeOf("createdAt", createdAtMs),
    createdBy,
    comment,
    author,
    empty,
    ...(layer === undefined ? {} : { layer: toDescriptor(layer) }),
    sizeBytes: BigInt(sizeBytes),
  };
}

export function toUsage(usage: NamespaceUsage): ImageUsageReport {
  return create(ImageUsageReportSchema, {
    images: usage.images.map(toImageUsage),
    blobBytes: BigInt(usage.blobBytes),
    snapshotBytes: BigInt(usage.snapshotBytes),
    totalBytes: BigInt(usage.totalBytes),
    reclaimableBytes: BigInt(usage.reclaimableBytes),
  });
}

function toImageUsage(usage: ImageUsage): MessageInitShape<typeof ImageUsageSchema> {
  const { name, digest, uniqueBytes, sharedBytes, pinned, lastUsedAtMs } = usage;
  const bytes = { uniqueBytes: BigInt(uniqueBytes), sharedBytes: BigInt(sharedBytes) };
  return { name, digest, ...bytes, pinned, ...timeOf("lastUsedAt", lastUsedAtMs) };
}

export function toPruned({ removed, kept, freedBytes }: PruneResult): PruneImagesResponse {
  return create(PruneImagesResponseSchema, {
    removed: removed.map(({ name, digest }) => ({ name, digest })),
    kept: kept.map(({ name, why }) => ({ name, why })),
    freedBytes: BigInt(freedBytes),
  });
}

function timeOf<K extends string>(key: K, atMs: number | undefined): { readonly [P in K]?: Timestamp } {
  return atMs === undefined ? {} : ({ [key]: timestampFromMs(atMs) } as { [P in K]: Timestamp });
}
