/**
 * A private NATS server with JetStream.
 *
 * Users: `controller` may do everything; a user per node may do what the caller's `permissions` say. NATS 2.9 syncs
 * JetStream's files every two minutes and has no setting for it: Berth does not rely on them (D1, D4).
 */
import { rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { StatusError } from "@berth/base";
import { exchange } from "./ports.ts";
import { extendServer, makeDir, secretIn, startServer, type Server, type ServerOptions } from "./server.ts";

export interface NatsOptions extends ServerOptions {
  /** Nodes that get a user of their own. */
  readonly nodes?: readonly string[];
  /** What such a user may do: libs/bus's `agentPermissions`. Needed when there are nodes. */
  readonly permissions?: (node: string) => NatsPermissions;
}

/** In the words of nats-server's configuration. */
export interface NatsPermissions {
  readonly publish: { readonly allow: readonly string[] };
  readonly subscribe: { readonly allow: readonly string[] };
  readonly allow_responses: { readonly max: number; readonly expires: string };
}

export interface NatsServer extends Server {
  /** As the user `controller`, who may do everything. */
  readonly url: string;
  /** As a node, who may use its own subjects alone. */
  nodeUrl(node: string): string;
  /** Ends the server, deletes every stream it holds, starts it again. */
  wipe(): Promise<void>;
}

export async function startNats(options: NatsOptions): Promise<NatsServer> {
  const dir = resolve(options.dir);
  const permissions = options.permissions ?? needPermissions;
  const storeDir = join(dir, "store");
  const controllerPassword = secretIn(dir, "controller");
  const passwords = new Map((options.nodes ?? []).map((node) => [node, secretIn(dir, `node-${node}`)]));
  const login = JSON.stringify({ user: "controller", pass: controllerPassword, verbose: false, pedantic: false });
  const server = await startServer(
    {
      name: "nats",
      command(host, port) {
        makeDir(storeDir);
        const file = join(dir, "nats.conf");
        const text = configuration(host, port, storeDir, controllerPassword, passwords, permissions);
        writeFileSync(file, text, { mode: 0o600 });
        return ["nats-server", "-c", file];
      },
      async probe(host, port) {
        await exchange(host, port, `CONNECT ${login}\r\nPING\r\n`, "PONG\r\n");
      },
    },
    { ...options, dir },
  );
  const at = `${server.host}:${server.port}`;
  return extendServer(server, {
    url: `nats://controller:${controllerPassword}@${at}`,
    nodeUrl(node: string) {
      const password = passwords.get(node);
      if (password === undefined) throw new RangeError(`nats: no node "${node}" among those it was started with`);
      return `nats://${node}:${password}@${at}`;
    },
    async wipe() {
      await server.stop();
      rmSync(storeDir, { recursive: true, force: true });
      makeDir(storeDir);
      await server.start();
    },
  });
}

/** NATS reads JSON as its own configuration format, which saves quoting rules. */
function configuration(
  host: string,
  port: number,
  storeDir: string,
  controllerPassword: string,
  passwords: ReadonlyMap<string, string>,
  permissions: (node: string) => NatsPermissions,
): string {
  const users = [...passwords].map(([user, password]) => ({ user, password, permissions: permissions(user) }));
  return JSON.stringify(
    {
      host,
      port,
      max_payload: 8 * 1024 * 1024,
      jetstream: { store_dir: storeDir, max_memory_store: 64 * 1024 * 1024, max_file_store: 4 * 1024 ** 3 },
      authorization: { users: [{ user: "controller", password: controllerPassword }, ...users] },
    },
    undefined,
    2,
  );
}

function needPermissions(node: string): never {
  throw new StatusError("INVALID_ARGUMENT", `nats: what may node "${node}" do? Give \`permissions\``);
}
