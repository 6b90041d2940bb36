/** The engine's records as the host API's messages. Shapes only: nothing is decided here. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { BlobInfo, IngestStatus } from "@berth/content";
import type {
  ExportResult,
  ImagePin,
  ImageRecord,
  ImportResult,
  PullProgress,
  PushResult,
  UnpackedImage,
} from "@berth/images";
import type { Descriptor } from "@berth/model";
import {
  BlobSchema,
  ImagePinSchema,
  ImageSchema,
  IngestSchema,
  ExportResultSchema,
  ImportResultSchema,
  ProgressSchema,
  PushResultSchema,
  SnapshotSchema,
  UnpackedImageSchema,
  type Blob,
  type DescriptorSchema,
  type Image,
  type ImagePin as ImagePinMessage,
  type Ingest,
  type ExportResult as ExportResultMessage,
  type ImportResult as ImportResultMessage,
  type Progress,
  type PushResult as PushResultMessage,
  type Snapshot,
  type UnpackedImage as UnpackedImageMessage,
} from "@berth/proto/host";
import type { SnapshotInfo } from "@berth/snapshots";

export function toDescriptor({ mediaType, digest, size }: Descriptor): MessageInitShape<typeof DescriptorSchema> {
  return { mediaType, digest, sizeBytes: BigInt(size) };
}

export function toImage(record: ImageRecord): Image {
  const { name, target, labels } = record;
  return create(ImageSchema, { name, target: toDescriptor(target), labels, ...times(record) });
}

export function toPin({ name, holder, untilMs }: ImagePin): ImagePinMessage {
  const until = untilMs === undefined ? {} : { until: timestampFromMs(untilMs) };
  return create(ImagePinSchema, { image: name, holder, ...until });
}

export function toUnpackedImage(unpacked: UnpackedImage): UnpackedImageMessage {
  const { image, manifest, configDigest: config, snapshotter, chainId, sizeBytes, artifactType } = unpacked;
  return create(UnpackedImageSchema, {
    image: toImage(image),
    manifest,
    config,
    snapshotter,
    chainId,
    sizeBytes: BigInt(sizeBytes),
    artifactType: artifactType ?? "",
  });
}

export function toPullProgress({ etaMs, rateBytesPerSecond, layers, ...whole }: PullProgress): Progress {
  const message = toTransferProgress({ ...whole, blobs: layers });
  message.rateBytesPerSecond = BigInt(Math.round(rateBytesPerSecond));
  if (etaMs !== undefined) message.etaMs = BigInt(Math.round(etaMs));
  return message;
}

type AnyProgress = Pick<PullProgress, "offsetBytes" | "totalBytes"> & {
  readonly phase: string;
  readonly blobs: readonly {
    readonly digest: string;
    readonly state: string;
    readonly offsetBytes: number;
    readonly totalBytes: number;
  }[];
};

export function toTransferProgress({ phase, offsetBytes, totalBytes, blobs }: AnyProgress): Progress {
  return create(ProgressSchema, {
    phase,
    offsetBytes: BigInt(offsetBytes),
    totalBytes: BigInt(totalBytes),
    blobs: blobs.map((blob) => ({
      digest: blob.digest,
      state: blob.state,
      offsetBytes: BigInt(blob.offsetBytes),
      totalBytes: BigInt(blob.totalBytes),
    })),
  });
}

export function toPushResult({ target, uploaded, mounted, existing }: PushResult): PushResultMessage {
  return create(PushResultSchema, { target: toDescriptor(target), uploaded, mounted, existing });
}

export function toImportResult({ format, images }: ImportResult): ImportResultMessage {
  return create(ImportResultSchema, {
    format,
    images: images.map(({ record, manifest, unpacked }) => ({ image: toImage(record), manifest, unpacked })),
  });
}

export function toExportResult({ images, blobs, sizeBytes }: ExportResult): ExportResultMessage {
  return create(ExportResultSchema, { images: [...images], blobs, sizeBytes: BigInt(sizeBytes) });
}

export function toBlob(info: BlobInfo): Blob {
  const { digest, sizeBytes, labels } = info;
  return create(BlobSchema, { digest, sizeBytes: BigInt(sizeBytes), labels, ...times(info) });
}

export function toIngest(status: IngestStatus): Ingest {
  const { ref, offsetBytes, totalBytes, expected, lease, labels } = status;
  return create(IngestSchema, {
    ref,
    offsetBytes: BigInt(offsetBytes),
    totalBytes: BigInt(totalBytes),
    expected: expected ?? "",
    lease: lease ?? "",
    labels,
    startedAt: timestampFromMs(status.startedAtMs),
    updatedAt: timestampFromMs(status.updatedAtMs),
  });
}

export function toSnapshot(info: SnapshotInfo): Snapshot {
  const { key, kind, parent, labels } = info;
  return create(SnapshotSchema, { key, kind, parent, labels, ...times(info) });
}

function times({ createdAtMs, updatedAtMs }: { readonly createdAtMs: number; readonly updatedAtMs: number }) {
  return { createdAt: timestampFromMs(createdAtMs), updatedAt: timestampFromMs(updatedAtMs) };
}
