/** Debian's docker-registry on a free loopback port, for tests: plain, with TLS, with credentials, as a mirror. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { digestOf, type Digest } from "@berth/base";
import { request } from "undici";

export interface DockerRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** Where its storage lies; below it `docker/registry/v2/blobs/sha256/<2 hex>/<hex>/data`. */
  readonly root: string;
  /** Puts a blob into a repository; idempotent. */
  pushBlob(repository: string, bytes: Uint8Array): Promise<Digest>;
  /** Puts a manifest under a tag, and gives its digest. */
  pushManifest(repository: string, tag: string, mediaType: string, bytes: Uint8Array): Promise<Digest>;
}

export interface DockerRegistryOptions {
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCa?: string };
  /** Asks for the name and the password of {@link HTPASSWD}. */
  readonly htpasswd?: boolean;
  /** Asks for tokens of this service, signed with the certificate's key. */
  readonly token?: { readonly realm: string; readonly service: string; readonly issuer: string; readonly cert: string };
  /** Makes it a pull-through mirror of the registry at this URL. */
  readonly proxy?: string;
}

/** The one user of a registry with `htpasswd`; the line is bcrypt of the password. */
export const HTPASSWD = {
  username: "ann",
  password: "open sesame",
  line: "ann:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW",
} as const;

/**
 * Starts a registry that keeps its data in a temporary folder (or in `root`); by default it serves plain HTTP without
 * credentials. The pushes below work with that kind only.
 */
export async function startDockerRegistry(root?: string, options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const folder = await mkdtemp(join(root ?? tmpdir(), "berth-registry-"));
  const config = join(folder, "config.yml");
  await writeFile(config, await configText(folder, options));
  const child = spawn("docker-registry", ["serve", config], { stdio: ["ignore", "ignore", "pipe"] });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const host = await listening(child.stderr);
    return { host, root: folder, ...pushes(host), [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function configText(folder: string, { tls, htpasswd, token, proxy }: DockerRegistryOptions): Promise<string> {
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(folder, name), text);
    return join(folder, name);
  };
  const http: Record<string, unknown> = { addr: "127.0.0.1:0", secret: "test" };
  if (tls !== undefined) {
    const clientcas = tls.clientCa === undefined ? {} : { clientcas: [await file("client-ca.pem", tls.clientCa)] };
    http["tls"] = { certificate: await file("cert.pem", tls.cert), key: await file("key.pem", tls.key), ...clientcas };
  }
  const auth: Record<string, unknown> = {};
  if (htpasswd === true) auth["htpasswd"] = { realm: "test", path: await file("htpasswd", HTPASSWD.line) };
  if (token !== undefined) {
    const { cert, ...rest } = token;
    auth["token"] = { ...rest, rootcertbundle: await file("token.pem", cert) };
  }
  const config = {
    version: 0.1,
    log: { level: "info", formatter: "text" },
    storage: { filesystem: { rootdirectory: folder }, delete: { enabled: true } },
    http,
    ...(Object.keys(auth).length === 0 ? {} : { auth }),
    ...(proxy === undefined ? {} : { proxy: { remoteurl: proxy } }),
  };
  // JSON is YAML.
  return JSON.stringify(config);
}

async function listening(stderr: NodeJS.ReadableStream): Promise<string> {
  const lines = createInterface({ input: stderr });
  const seen: string[] = [];
  for await (const line of lines) {
    seen.push(line);
    const match = /listening on (127\.0\.0\.1:\d+)/.exec(line);
    if (match === null) continue;
    stderr.resume();
    return match[1]!;
  }
  throw new Error(`docker-registry ended before it listened:\n${seen.slice(-10).join("\n")}`);
}

function pushes(host: string): Pick<DockerRegistry, "pushBlob" | "pushManifest"> {
  const base = `http://${host}`;
  return {
    async pushBlob(repository, bytes) {
      const digest = digestOf(bytes);
      const began = await request(`${base}/v2/${repository}/blobs/uploads/`, { method: "POST" });
      await began.body.dump();
      const url = new URL(String(began.headers["location"]), base);
      url.searchParams.set("digest", digest);
      const put = await request(url, {
        method: "PUT",
        body: bytes,
        headers: { "content-type": "application/octet-stream" },
      });
      await expectStatus(put, 201);
      return digest;
    },
    async pushManifest(repository, tag, mediaType, bytes) {
      const url = `${base}/v2/${repository}/manifests/${tag}`;
      await expectStatus(
        await request(url, { method: "PUT", body: bytes, headers: { "content-type": mediaType } }),
        201,
      );
      return `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;
    },
  };
}

async function expectStatus(answer: Awaited<ReturnType<typeof request>>, status: number): Promise<void> {
  const text = await answer.body.text();
  if (answer.statusCode !== status) throw new Error(`push: registry answered ${answer.statusCode}: ${text}`);
}
