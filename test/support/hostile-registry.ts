/** A registry that lies: its manifests are well formed, its blobs are not what they promise. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { buildImage, type ImageBlob } from "@berth/testkit";

export interface HostileRegistry extends AsyncDisposable {
  readonly address: string;
}

/** Serves `wrong/bytes` (a layer of the right length and wrong content) and `cut/short` (a layer that ends early). */
export async function startHostileRegistry(host: string, port: number): Promise<HostileRegistry> {
  // Bytes that no honest image has: a layer that a node holds already would not be fetched again.
  const noise = { entries: [{ path: "noise", content: randomBytes(256 * 1024) }] };
  const image = buildImage({ layers: [noise], config: { Cmd: ["/bin/true"] } });
  const layers = new Set<string>(image.layers.map((layer) => layer.descriptor.digest));
  const server = createServer((request, response) => {
    const match = /^\/v2\/(wrong\/bytes|cut\/short)\/(manifests|blobs)\/(.+)$/.exec(request.url ?? "");
    if (match === null) return void response.writeHead(request.url === "/v2/" ? 200 : 404).end();
    const [, repository, kind, reference = ""] = match;
    if (kind === "manifests") {
      const manifest = image.manifests.get(image.root.digest)!;
      return void response
        .writeHead(200, { "content-type": manifest.mediaType, "content-length": manifest.bytes.length })
        .end(manifest.bytes);
    }
    const found = [...image.blobs].find(([digest]) => digest === reference);
    if (found === undefined) return void response.writeHead(404).end();
    const bytes = bytesOf(found[1]);
    const spoilt = layers.has(reference);
    if (spoilt && repository === "wrong/bytes") bytes[Math.floor(bytes.length / 2)]! ^= 0xff;
    response.writeHead(200, { "content-length": bytes.length });
    if (!spoilt || repository === "wrong/bytes") return void response.end(bytes);
    response.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  return {
    address: `${host}:${port}`,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

function bytesOf(blob: ImageBlob): Buffer {
  return "file" in blob ? readFileSync(blob.file) : Buffer.from(blob.bytes);
}
