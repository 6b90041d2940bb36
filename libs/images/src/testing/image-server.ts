/** A registry that serves images from memory and can be told to do it badly. */
import type { ServerResponse } from "node:http";
import { digestOf } from "@berth/base";
import { startHostileServer, type HostileServer, type SeenRequest } from "@berth/registry/testing";
import type { BuiltImage } from "./image.ts";

/** Answers a request itself and gives true, or leaves it to the honest server. */
export type Mischief = (seen: SeenRequest, response: ServerResponse, blob: Buffer | undefined) => boolean;

export interface ImageServer extends HostileServer {
  /** Changes what is done from now on. */
  mischief(next: Mischief | undefined): void;
}

/** Serves it under every repository and tag. */
export async function serveImage(image: BuiltImage, first?: Mischief): Promise<ImageServer> {
  return await serve(image.blobs, () => image, first);
}

/** Serves each under its repository, whatever the tag. */
export async function serveImages(
  images: Readonly<Record<string, BuiltImage>>,
  first?: Mischief,
): Promise<ImageServer> {
  const blobs = Object.values(images).flatMap((image) => image.blobs);
  return await serve(blobs, (path) => images[/^\/v2\/(.+)\/manifests\//.exec(path)?.[1] ?? ""], first);
}

async function serve(
  all: readonly Buffer[],
  find: (path: string) => BuiltImage | undefined,
  first: Mischief | undefined,
): Promise<ImageServer> {
  const blobs = new Map(all.map((bytes) => [digestOf(bytes) as string, bytes]));
  let mischief = first;
  const server = await startHostileServer((seen, response) => {
    const digest = /\/blobs\/([^?]+)/.exec(seen.path)?.[1];
    const blob = digest === undefined ? undefined : blobs.get(digest);
    if (mischief?.(seen, response, blob)) return;
    const image = find(seen.path);
    if (blob !== undefined) sendBlob(seen, response, blob);
    else if (digest === undefined && image !== undefined) sendManifest(seen, response, image);
    else response.writeHead(404).end();
  });
  return { ...server, mischief: (next) => void (mischief = next) };
}

export function sendBlob({ method, headers }: SeenRequest, response: ServerResponse, blob: Buffer): void {
  const [, first = "0", last = ""] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "") ?? [];
  const end = Math.min(last === "" ? blob.length : Number(last) + 1, blob.length);
  const rest = blob.subarray(Number(first), end);
  const partial = headers.range !== undefined;
  const range = partial ? { "content-range": `bytes ${first}-${end - 1}/${blob.length}` } : {};
  response.writeHead(partial ? 206 : 200, { "content-length": String(rest.length), ...range });
  response.end(method === "HEAD" ? undefined : rest);
}

export function sendManifest({ method }: SeenRequest, response: ServerResponse, image: BuiltImage): void {
  response.writeHead(200, {
    "content-type": image.manifestType,
    "content-length": String(image.manifest.length),
    "docker-content-digest": image.descriptor.digest,
  });
  response.end(method === "HEAD" ? undefined : image.manifest);
}
