/**
 * Pulls, pushes, imports and exports by the host door, each told of while it goes on. Where a client names a path, the bytes
 * stay in the engine's worker threads (A4); where it sends or takes them itself, they pass the main loop at its pace.
 */
import { statSync } from "node:fs";
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { anySignal, StatusError } from "@berth/base";
import type { ExportTarget, Images, ImportRequest, PullProgress, TransferProgress } from "@berth/images";
import {
  ExportImagesResponseSchema,
  ImportImagesResponseSchema,
  PullImageResponseSchema,
  PushImageResponseSchema,
  type ExportImagesRequest,
  type ExportImagesResponse,
  type ImportImagesRequest,
  type ImportImagesResponse,
  type ImportOptions,
  type PullImageRequest,
  type PullImageResponse,
  type PushImageRequest,
  type PushImageResponse,
} from "@berth/proto/host";
import { handOver } from "./hand-over.ts";
import { followed } from "./followed.ts";
import {
  toExportResult,
  toImportResult,
  toPullProgress,
  toPushResult,
  toTransferProgress,
  toUnpackedImage,
} from "./wire.ts";

export interface TransferDeps {
  readonly images: Images;
  /** Taken where a request names no snapshotter. */
  readonly defaultSnapshotter: string;
}

export async function* pullImage(
  { images, defaultSnapshotter }: TransferDeps,
  { namespace, image, snapshotter, skipUnpack, lease }: PullImageRequest,
  signal: AbortSignal,
): AsyncGenerator<PullImageResponse> {
  const request = {
    namespace,
    image,
    snapshotter: snapshotter || defaultSnapshotter,
    unpack: !skipUnpack,
    ...given("lease", lease),
  };
  const pulling = followed(signal, (onProgress: (progress: PullProgress) => void, within) =>
    images.pull({ ...request, signal: within, onProgress }),
  );
  for await (const step of pulling) {
    const event =
      "done" in step
        ? { case: "done" as const, value: toUnpackedImage(step.done) }
        : { case: "progress" as const, value: toPullProgress(step.progress) };
    yield create(PullImageResponseSchema, { event });
  }
}

export async function* pushImage(
  { images }: TransferDeps,
  { namespace, image, target }: PushImageRequest,
  signal: AbortSignal,
): AsyncGenerator<PushImageResponse> {
  const pushing = followed(signal, (onProgress: (progress: TransferProgress) => void, within) =>
    images.transfer.push({ namespace, image, ...given("target", target), signal: within, onProgress }),
  );
  for await (const step of pushing) {
    const event =
      "done" in step
        ? { case: "done" as const, value: toPushResult(step.done) }
        : { case: "progress" as const, value: toTransferProgress(step.progress) };
    yield create(PushImageResponseSchema, { event });
  }
}

export async function* importImages(
  deps: TransferDeps,
  requests: AsyncIterable<ImportImagesRequest>,
  signal: AbortSignal,
): AsyncGenerator<ImportImagesResponse> {
  const messages = requests[Symbol.asyncIterator]();
  const first = (await messages.next()) as IteratorResult<ImportImagesRequest, undefined>;
  const options = first.value?.message.case === "options" ? first.value.message.value : undefined;
  if (options === undefined) {
    throw StatusError.invalid([{ field: "options", description: "is required, as the first message" }]);
  }
  const request = importRequest(options, deps.defaultSnapshotter, messages);
  const importing = followed(signal, (onProgress: (progress: TransferProgress) => void, within) =>
    deps.images.transfer.import({ ...request, signal: within, onProgress }),
  );
  for await (const step of importing) {
    const event =
      "done" in step
        ? { case: "done" as const, value: toImportResult(step.done) }
        : { case: "progress" as const, value: toTransferProgress(step.progress) };
    yield create(ImportImagesResponseSchema, { event });
  }
}

function importRequest(
  { namespace, path, name, baseName, only, snapshotter, skipUnpack, lease }: ImportOptions,
  defaultSnapshotter: string,
  messages: AsyncIterator<ImportImagesRequest>,
): ImportRequest {
  return {
    namespace,
    source: path === "" ? { kind: "stream", stream: bytesOf(messages) } : sourceAt(path),
    ...given("name", name),
    ...given("baseName", baseName),
    ...given("lease", lease),
    ...(only.length === 0 ? {} : { only }),
    ...(skipUnpack ? {} : { snapshotter: snapshotter || defaultSnapshotter }),
  };
}

function sourceAt(path: string): ImportRequest["source"] {
  return { kind: statSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? "directory" : "file", path };
}

/** What comes after the first message. */
function bytesOf(messages: AsyncIterator<ImportImagesRequest>): Readable {
  return Readable.from(
    (async function* () {
      for (;;) {
        const next = await messages.next();
        if (next.done === true) return;
        if (next.value.message.case === "data") yield Buffer.from(next.value.message.value);
      }
    })(),
    { objectMode: false },
  );
}

export async function* exportImages(
  { images }: TransferDeps,
  { namespace, images: names, path, format, directory }: ExportImagesRequest,
  signal: AbortSignal,
): AsyncGenerator<ExportImagesResponse> {
  const request = { namespace, images: names, format: format === "docker" ? "docker" : "oci" } as const;
  if (path === "") {
    yield* streamed(images, request, signal);
    return;
  }
  const target: ExportTarget = { kind: directory ? "directory" : "file", path };
  const exporting = followed(signal, (onProgress: (progress: TransferProgress) => void, within) =>
    images.transfer.export({ ...request, target, signal: within, onProgress }),
  );
  for await (const step of exporting) {
    const event =
      "done" in step
        ? { case: "done" as const, value: toExportResult(step.done) }
        : { case: "progress" as const, value: toTransferProgress(step.progress) };
    yield create(ExportImagesResponseSchema, { event });
  }
}

/** The archive's bytes as the client takes them, then the result. */
async function* streamed(
  images: Images,
  request: Omit<Parameters<Images["transfer"]["export"]>[0], "target">,
  signal: AbortSignal,
): AsyncGenerator<ExportImagesResponse> {
  const left = new AbortController();
  const { stream, chunks } = handOver();
  const within = anySignal(signal, left.signal);
  const exporting = images.transfer.export({ ...request, target: { kind: "stream", stream }, signal: within });
  // Told below; a failure also ends the stream.
  exporting.catch((error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))));
  try {
    for await (const data of chunks) {
      yield create(ExportImagesResponseSchema, { event: { case: "data", value: Uint8Array.from(data) } });
    }
    yield create(ExportImagesResponseSchema, { event: { case: "done", value: toExportResult(await exporting) } });
  } finally {
    left.abort();
    stream.destroy();
    await exporting.catch(() => {});
  }
}

function given<K extends string>(key: K, value: string): { readonly [P in K]?: string } {
  return value === "" ? {} : ({ [key]: value } as { [P in K]: string });
}
