/** Pushes a built image to a registry over HTTP: blobs that it lacks, each in one request, then the manifests. */
import { openAsBlob } from "node:fs";
import { StatusError, type Digest } from "@berth/base";
import type { BuiltImage, ImageBlob } from "./build.ts";

export interface PushTarget {
  /** Such as `http://127.0.0.1:5000`; a started registry's `api`. */
  readonly api: string;
  readonly credentials?: { readonly username: string; readonly password: string } | undefined;
}

export interface PushedImage {
  /** `host:port/repository:tag`, as a workload names it. */
  readonly name: string;
  readonly digest: Digest;
}

/** Pushes an image as `repository:tag`. Idempotent. Throws UNAVAILABLE with what the registry said. */
export async function pushImage(
  registry: PushTarget,
  repository: string,
  tag: string,
  image: BuiltImage,
): Promise<PushedImage> {
  const request = requester(registry, repository);
  for (const [digest, blob] of image.blobs) {
    if ((await request("HEAD", `blobs/${digest}`, [200, 404])).status === 404) await pushBlob(request, digest, blob);
  }
  for (const [digest, { mediaType, bytes }] of image.manifests) {
    const reference = digest === image.root.digest ? tag : digest;
    await request("PUT", `manifests/${reference}`, [201], { body: bytes, headers: { "content-type": mediaType } });
  }
  return { name: `${new URL(registry.api).host}/${repository}:${tag}`, digest: image.root.digest };
}

async function pushBlob(request: Requester, digest: Digest, blob: ImageBlob): Promise<void> {
  const begun = await request("POST", "blobs/uploads/", [202]);
  const location = new URL(begun.headers.get("location") ?? "", begun.url);
  location.searchParams.set("digest", digest);
  const body = "bytes" in blob ? blob.bytes : await openAsBlob(blob.file);
  await request("PUT", location.href, [201], { body, headers: { "content-type": "application/octet-stream" } });
}

type Requester = (
  method: string,
  path: string,
  expected: readonly number[],
  init?: { body: Buffer | Blob; headers: Record<string, string> },
) => Promise<Response>;

function requester(registry: PushTarget, repository: string): Requester {
  const { credentials } = registry;
  const login = credentials && Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64");
  return async (method, path, expected, init) => {
    const url = new URL(path, `${registry.api}/v2/${repository}/`);
    const headers = { ...init?.headers, ...(login === undefined ? {} : { authorization: `Basic ${login}` }) };
    const body = init === undefined ? {} : { body: init.body instanceof Blob ? init.body : new Uint8Array(init.body) };
    const response = await fetch(url, { method, headers, ...body }).catch((error: unknown) => {
      throw new StatusError("UNAVAILABLE", `registry ${url.host}: ${method} ${url.pathname} failed`, { cause: error });
    });
    const text = await response.text();
    if (expected.includes(response.status)) return response;
    const said = `${response.status} ${text.slice(0, 300)}`;
    throw new StatusError("UNAVAILABLE", `registry ${url.host}: ${method} ${url.pathname}: ${said}`);
  };
}
