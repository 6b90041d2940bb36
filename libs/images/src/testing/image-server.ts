/** A registry that serves one image from memory and can be told to do it badly. */
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

export async function serveImage(image: BuiltImage, first?: Mischief): Promise<ImageServer> {
  const blobs = new Map(image.blobs.map((bytes) => [digestOf(bytes) as string, bytes]));
  let mischief = first;
  const server = await startHostileServer((seen, response) => {
    const digest = /\/blobs\/(.+)$/.exec(seen.path)?.[1];
    const blob = digest === undefined ? undefined : blobs.get(digest);
    if (mischief?.(seen, response, blob)) return;
    if (digest === undefined) sendManifest(seen, response, image);
    else if (blob === undefined) response.writeHead(404).end();
    else sendBlob(seen, response, blob);
  });
  return { ...server, mischief: (next) => void (mischief = next) };
}

export function sendBlob({ method, headers }: SeenRequest, response: ServerResponse, blob: Buffer): void {
  const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
  const rest = blob.subarray(from);
  const range = from > 0 ? { "content-range": `bytes ${from}-${blob.length - 1}/${blob.length}` } : {};
  response.writeHead(from > 0 ? 206 : 200, { "content-length": String(rest.length), ...range });
  response.end(method === "HEAD" ? undefined : rest);
}

function sendManifest({ method }: SeenRequest, response: ServerResponse, image: BuiltImage): void {
  response.writeHead(200, {
    "content-type": image.manifestType,
    "content-length": String(image.manifest.length),
    "docker-content-digest": image.descriptor.digest,
  });
  response.end(method === "HEAD" ? undefined : image.manifest);
}
