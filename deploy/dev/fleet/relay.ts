/**
 * Lets the hosts reach a broker that the environment names, wherever it is: a process that listens on the bridge's address
 * and passes bytes on. TLS passes through unseen, so a certificate must name the bridge's address or not be verified.
 */
import { connect, createServer, type Socket } from "node:net";
import { pipeline } from "node:stream";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { Daemon, endProcess, eventually } from "@berth/testkit/servers";
import type { Layout } from "./layout.ts";
import { portOf, remember, remembered } from "./state.ts";

const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  "redis:": 6379,
  "rediss:": 6379,
  "nats:": 4222,
  "tls:": 4222,
};

/** Starts the relay for a URL and gives the URL that the hosts use in its place. */
export async function startRelay(layout: Layout, name: string, listenHost: string, url: string): Promise<string> {
  const target = new URL(url);
  const port = await portOf(layout, `${name}-relay`, listenHost);
  const targetPort = target.port === "" ? (DEFAULT_PORTS[target.protocol] ?? 0) : Number(target.port);
  const relayName = `${name}-relay`;
  const running = remembered(layout, relayName);
  if (running !== undefined) await endProcess(running); // the target may be another one this time
  const daemon = new Daemon({
    name: relayName,
    argv: [
      process.execPath,
      fileURLToPath(import.meta.url),
      listenHost,
      String(port),
      target.hostname,
      String(targetPort),
    ],
    cwd: layout.dir,
    logFile: join(layout.logs, `${relayName}.log`),
    probe: () => canConnect(listenHost, port),
    detached: true,
  });
  await daemon.start();
  if (daemon.identity !== undefined) remember(layout, relayName, daemon.identity);
  await eventually(`${name} at ${target.host}`, () => canConnect(target.hostname, targetPort).then(() => true));
  const reached = new URL(url);
  reached.hostname = listenHost;
  reached.port = String(port);
  return reached.href;
}

function canConnect(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port }, () => {
      socket.destroy();
      resolve();
    });
    socket.once("error", reject);
  });
}

/** Both directions; an error of either side ends both. */
function pass(client: Socket, host: string, port: number): void {
  const server = connect({ host, port });
  for (const socket of [client, server]) socket.setNoDelay(true);
  pipeline(client, server, () => {});
  pipeline(server, client, () => {});
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [listenHost = "", listenPort = "", host = "", port = ""] = process.argv.slice(2);
  createServer((client) => pass(client, host, Number(port))).listen({ host: listenHost, port: Number(listenPort) });
}
