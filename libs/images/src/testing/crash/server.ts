/** A registry in this process that serves several images, in pieces and not too fast, so that crashes meet transfers. */
import type { ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { digestOf } from "@berth/base";
import { startHostileServer, type HostileServer } from "@berth/registry/testing";
import type { BuiltImage } from "../image.ts";
import { sendBlob, sendManifest } from "../image-server.ts";

const PIECE_BYTES = 128 * 1024;
const PAUSE_MS = 2;

export interface ManyImagesServer extends HostileServer {
  /** At once and whole, for who only checks. */
  hurry(on: boolean): void;
}

export async function serveImages(images: ReadonlyMap<string, BuiltImage>): Promise<ManyImagesServer> {
  const blobs = new Map<string, Buffer>();
  for (const image of images.values()) for (const bytes of image.blobs) blobs.set(digestOf(bytes), bytes);
  let hurried = false;
  const server = await startHostileServer((seen, response) => {
    const [, repository = "", kind, name = ""] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)/.exec(seen.path) ?? [];
    const image = images.get(repository);
    const blob = blobs.get(name);
    if (kind === "manifests" && image !== undefined) sendManifest(seen, response, image);
    else if (kind !== "blobs" || blob === undefined) response.writeHead(404).end();
    else if (hurried || seen.method === "HEAD") sendBlob(seen, response, blob);
    else void trickle(seen.headers.range, response, blob);
  });
  return { ...server, hurry: (on) => void (hurried = on) };
}

async function trickle(range: string | undefined, response: ServerResponse, blob: Buffer): Promise<void> {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  const from = Number(first ?? 0);
  const rest = blob.subarray(from, last ? Number(last) + 1 : undefined);
  const partial = { "content-range": `bytes ${from}-${from + rest.length - 1}/${blob.length}` };
  response.writeHead(first === undefined ? 200 : 206, {
    "content-length": String(rest.length),
    ...(first === undefined ? {} : partial),
  });
  for (let at = 0; at < rest.length && !response.destroyed; at += PIECE_BYTES) {
    response.write(rest.subarray(at, at + PIECE_BYTES));
    await delay(PAUSE_MS);
  }
  response.end();
}
