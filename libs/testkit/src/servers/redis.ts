/**
 * A private Redis: append-only file, no eviction, no default user.
 *
 * Users (facts measured with BullMQ 6.7): `controller` may do everything; a user per node reaches only the keys of that
 * node's own queue, with the commands that a BullMQ worker needs. `info` is among them because BullMQ reads the
 * server's version.
 */
import { copyFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { exchange } from "./ports.ts";
import { extendServer, makeDir, secretIn, startServer, type Server, type ServerOptions } from "./server.ts";

export interface RedisOptions extends ServerOptions {
  /** Nodes that get a user of their own. */
  readonly nodes?: readonly string[];
  /** Follows this one, with the same users, until it is promoted. */
  readonly replicaOf?: RedisServer;
}

export interface RedisServer extends Server {
  /** As the user `controller`, who may do everything. */
  readonly url: string;
  /** As a node, who may use its own queue alone. */
  nodeUrl(node: string): string;
  /** Ends its following; it takes writes from here on. */
  promote(): Promise<void>;
}

const NODE_COMMANDS =
  "-@all +@read +@write +@scripting +@connection +@transaction -keys -@dangerous +info -script|flush -script|kill";

/** The keys of one node's queue; BullMQ's default prefix is `bull`. */
export function nodeKeyPattern(node: string): string {
  return `bull:{node-${node}}:*`;
}

export async function startRedis(options: RedisOptions): Promise<RedisServer> {
  const dir = resolve(options.dir);
  if (options.replicaOf !== undefined) copySecrets(dirname(options.replicaOf.logFile), dir);
  const controllerPassword = secretIn(dir, "controller");
  const passwords = new Map((options.nodes ?? []).map((node) => [node, secretIn(dir, `node-${node}`)]));
  const aclFile = join(dir, "users.acl");
  const users = [
    "user default off",
    `user controller on >${controllerPassword} ~* &* +@all`,
    ...[...passwords].map(([node, password]) => {
      return `user ${node} on >${password} resetchannels ~${nodeKeyPattern(node)} ${NODE_COMMANDS}`;
    }),
  ];
  writeFileSync(aclFile, `${users.join("\n")}\n`, { mode: 0o600 });
  const server = await startServer(
    {
      name: "redis",
      command(host, port) {
        const file = join(dir, "redis.conf");
        const following = options.replicaOf === undefined ? [] : replication(options.replicaOf, controllerPassword);
        writeFileSync(file, configuration(dir, host, port, aclFile, following), { mode: 0o600 });
        return ["redis-server", file];
      },
      async probe(host, port) {
        await exchange(host, port, `AUTH controller ${controllerPassword}\r\nPING\r\n`, "+PONG");
      },
    },
    { ...options, dir },
  );
  const at = `${server.host}:${server.port}`;
  return extendServer(server, {
    url: `redis://controller:${controllerPassword}@${at}`,
    nodeUrl: (node: string) => `redis://${node}:${passwordOf(passwords, node)}@${at}`,
    async promote() {
      const { host, port } = server;
      await exchange(host, port, `AUTH controller ${controllerPassword}\r\nREPLICAOF NO ONE\r\nPING\r\n`, "+PONG");
    },
  });
}

function copySecrets(from: string, to: string): void {
  makeDir(to);
  for (const name of readdirSync(from).filter((each) => each.endsWith(".secret")))
    copyFileSync(join(from, name), join(to, name));
}

function replication({ host, port }: RedisServer, password: string): string[] {
  return [`replicaof ${host} ${port}`, "masteruser controller", `masterauth ${password}`];
}

function configuration(dir: string, host: string, port: number, aclFile: string, more: readonly string[]): string {
  const quoted = (path: string): string => `"${path.replaceAll(/["\\]/g, "\\$&")}"`;
  return [
    `bind ${host}`,
    `port ${port}`,
    "protected-mode yes",
    "daemonize no",
    `dir ${quoted(dir)}`,
    `aclfile ${quoted(aclFile)}`,
    "appendonly yes",
    "appendfsync everysec",
    'save ""',
    "maxmemory-policy noeviction",
    "databases 1",
    ...more,
    "",
  ].join("\n");
}

function passwordOf(passwords: ReadonlyMap<string, string>, node: string): string {
  const password = passwords.get(node);
  if (password === undefined) throw new RangeError(`redis: node "${node}" was not among the nodes it was started with`);
  return password;
}
