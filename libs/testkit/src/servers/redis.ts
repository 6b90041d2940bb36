/**
 * A private Redis: append-only file, no eviction, no default user.
 *
 * Users (facts measured with BullMQ 6.7): `controller` may do everything; a user per node reaches only the keys of that
 * node's own queue, with the commands that a BullMQ worker needs. `info` is among them because BullMQ reads the
 * server's version.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { exchange } from "./ports.ts";
import { extendServer, secretIn, startServer, type Server, type ServerOptions } from "./server.ts";

export interface RedisOptions extends ServerOptions {
  /** Nodes that get a user of their own. */
  readonly nodes?: readonly string[];
}

export interface RedisServer extends Server {
  /** As the user `controller`, who may do everything. */
  readonly url: string;
  /** As a node, who may use its own queue alone. */
  nodeUrl(node: string): string;
}

const NODE_COMMANDS =
  "-@all +@read +@write +@scripting +@connection +@transaction -keys -@dangerous +info -script|flush -script|kill";

/** The keys of one node's queue; BullMQ's default prefix is `bull`. */
export function nodeKeyPattern(node: string): string {
  return `bull:{node-${node}}:*`;
}

export async function startRedis(options: RedisOptions): Promise<RedisServer> {
  const dir = resolve(options.dir);
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
        writeFileSync(file, configuration(dir, host, port, aclFile), { mode: 0o600 });
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
  });
}

function configuration(dir: string, host: string, port: number, aclFile: string): string {
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
    "",
  ].join("\n");
}

function passwordOf(passwords: ReadonlyMap<string, string>, node: string): string {
  const password = passwords.get(node);
  if (password === undefined) throw new RangeError(`redis: node "${node}" was not among the nodes it was started with`);
  return password;
}
