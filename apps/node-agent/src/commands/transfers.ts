/** `berthd images push`, `import` and `export`. Paths are the agent's to read and write; `-` goes through the socket. */
import { once } from "node:events";
import { resolve } from "node:path";
import { StatusError } from "@berth/base";
import { formatBytes } from "@berth/base/terminal";
import {
  ExportResultSchema,
  ImageService,
  ImportResultSchema,
  PushResultSchema,
  type ExportResult,
  type ImportImagesRequestSchema,
  type ImportOptionsSchema,
  type ImportResult,
  type Progress,
  type PushResult,
} from "@berth/proto/host";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { UsageError } from "./exit-code.ts";
import { createProgressView } from "./progress-view.ts";
import { printJson, type Session } from "./session.ts";

const CHUNK_BYTES = 256 * 1024;

export async function push(session: Session, image: string, target: string | undefined): Promise<void> {
  const { namespace } = session;
  const events = session.client(ImageService).pushImage({ namespace, image, target: target ?? "" });
  const done = await follow<PushResult>(session, target ?? image, events);
  if (session.json) return printJson(session, PushResultSchema, done);
  const counts = `${done.uploaded} blobs sent, ${done.mounted} mounted, ${done.existing} there already`;
  session.out(`${target ?? image} ${done.target?.digest ?? ""} (${counts})`);
}

export interface ImportCommandOptions {
  readonly name?: string;
  readonly baseName?: string;
  readonly only?: readonly string[];
  readonly snapshotter?: string;
  readonly unpack: boolean;
  readonly lease?: string;
}

export async function importImages(session: Session, path: string, options: ImportCommandOptions): Promise<void> {
  const { name = "", baseName = "", only = [], snapshotter = "", unpack, lease = "" } = options;
  const wanted: MessageInitShape<typeof ImportOptionsSchema> = {
    namespace: session.namespace,
    path: path === "-" ? "" : resolve(session.cwd, path),
    name,
    baseName,
    only: [...only],
    snapshotter,
    skipUnpack: !unpack,
    lease,
  };
  const requests = requestsOf(wanted, path === "-" ? session.stdin : undefined);
  const done = await follow<ImportResult>(session, path, session.client(ImageService).importImages(requests));
  if (session.json) return printJson(session, ImportResultSchema, done);
  for (const { image, unpacked } of done.images) {
    session.out(`${image?.name ?? ""} ${image?.target?.digest ?? ""}${unpacked ? "" : " (not unpacked)"}`);
  }
}

async function* requestsOf(
  options: MessageInitShape<typeof ImportOptionsSchema>,
  bytes: NodeJS.ReadStream | undefined,
): AsyncGenerator<MessageInitShape<typeof ImportImagesRequestSchema>> {
  yield { message: { case: "options", value: options } };
  for await (const chunk of (bytes ?? []) as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; at += CHUNK_BYTES) {
      yield { message: { case: "data", value: Uint8Array.from(chunk.subarray(at, at + CHUNK_BYTES)) } };
    }
  }
}

export async function exportImages(
  session: Session,
  path: string,
  images: readonly string[],
  options: { readonly format: string; readonly directory?: boolean },
): Promise<void> {
  const directory = options.directory ?? false;
  if (path === "-" && directory) throw new UsageError("--directory needs a path in place of -");
  if (path === "-" && session.stdout.isTTY) throw new UsageError("an archive is not for a terminal: redirect it");
  const request = {
    namespace: session.namespace,
    images: [...images],
    path: path === "-" ? "" : resolve(session.cwd, path),
    format: options.format,
    directory,
  };
  const done = await follow<ExportResult>(session, path, session.client(ImageService).exportImages(request));
  // Standard output has the archive.
  if (session.json && path !== "-") return printJson(session, ExportResultSchema, done);
  const told = `${done.images.join(", ")}: ${done.blobs} blobs, ${formatBytes(done.sizeBytes)}`;
  if (path === "-") session.note(told);
  else session.out(told);
}

interface Step<R> {
  readonly event:
    | { readonly case: "progress"; readonly value: Progress }
    | { readonly case: "done"; readonly value: R }
    | { readonly case: "data"; readonly value: Uint8Array }
    | { readonly case: undefined; readonly value?: undefined };
}

async function follow<R>(session: Session, what: string, steps: AsyncIterable<Step<R>>): Promise<R> {
  using view = createProgressView(session, what);
  for await (const { event } of steps) {
    if (event.case === "progress") view.update(event.value);
    if (event.case === "data" && !session.stdout.write(event.value)) {
      await once(session.stdout, "drain", { signal: session.signal });
    }
    if (event.case === "done") return event.value;
  }
  throw new StatusError("UNAVAILABLE", `berthd ended before ${what} was done; begin it again`, {
    reason: "TRANSFER_CUT_OFF",
  });
}
