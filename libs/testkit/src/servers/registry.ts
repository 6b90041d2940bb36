/**
 * A private image registry (Debian's docker-registry), plain HTTP, optionally with a password or as a mirror of another.
 *
 * `api` is what images.ts pushes to: `http://host:port`. `address` is what stands in an image's name.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { extendServer, makeDir, secretIn, startServer, type Server, type ServerOptions } from "./server.ts";

export interface RegistryOptions extends ServerOptions {
  /** Ask for this user's password, which is made and kept in `dir`. Default: anybody may read and write. */
  readonly username?: string;
  /** Be a pull-through mirror of this registry, such as `http://127.0.0.1:5000`. */
  readonly mirrorOf?: string;
}

export interface RegistryServer extends Server {
  /** `host:port`, the first part of image names. */
  readonly address: string;
  readonly api: string;
  /** Undefined when anybody may come in. */
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
}

export async function startRegistry(options: RegistryOptions): Promise<RegistryServer> {
  const dir = resolve(options.dir);
  const { username } = options;
  const credentials = username === undefined ? undefined : { username, password: secretIn(dir, "registry") };
  const htpasswdFile = join(dir, "htpasswd");
  if (credentials !== undefined) writeFileSync(htpasswdFile, htpasswd(credentials), { mode: 0o600 });
  const server = await startServer(
    {
      name: "registry",
      command(host, port) {
        makeDir(join(dir, "data"));
        const file = join(dir, "registry.yml");
        const settings = configuration(options, join(dir, "data"), `${host}:${port}`);
        const auth = credentials && { auth: { htpasswd: { realm: "berth", path: htpasswdFile } } };
        writeFileSync(file, JSON.stringify({ ...settings, ...auth }, undefined, 2), { mode: 0o600 });
        return ["docker-registry", "serve", file];
      },
      async probe(host, port) {
        const response = await fetch(`http://${host}:${port}/v2/`);
        await response.arrayBuffer();
        if (![200, 401].includes(response.status)) throw new Error(`registry answers ${response.status}`);
      },
    },
    { ...options, dir },
  );
  const address = `${server.host}:${server.port}`;
  return extendServer(server, { address, api: `http://${address}`, credentials });
}

/** The registry reads YAML, of which JSON is a part. */
function configuration(options: RegistryOptions, dataDir: string, addr: string): object {
  return {
    version: "0.1",
    log: { level: "warn", accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: dataDir },
      delete: { enabled: true },
      maintenance: { uploadpurging: { enabled: false } },
    },
    http: { addr, secret: secretIn(options.dir, "http") },
    ...(options.mirrorOf === undefined ? {} : { proxy: { remoteurl: options.mirrorOf } }),
  };
}

/** The registry knows bcrypt only. Node has none, but the libcrypt under Debian's perl-base (always there) does. */
function htpasswd({ username, password }: { username: string; password: string }): string {
  const salt = `$2b$05$${randomBytes(30).toString("base64").replaceAll(/[+=]/g, ".").slice(0, 21)}O`;
  const script = "chomp(my ($p, $s) = <STDIN>); print crypt($p, $s);";
  const hash = execFileSync("perl", ["-e", script], { input: `${password}\n${salt}\n`, encoding: "utf8" });
  return `${username}:${hash}\n`;
}
