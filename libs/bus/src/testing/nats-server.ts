/** A private nats-server with JetStream for this library's tests: on loopback, in a directory of its own. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TestNats extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Deletes what JetStream stored; only while stopped. */
  wipe(): Promise<void>;
}

export async function startTestNats(extraConfig = ""): Promise<TestNats> {
  const directory = await mkdtemp(join(tmpdir(), "berth-nats-"));
  const port = await freePort();
  const configPath = join(directory, "nats.conf");
  const store = join(directory, "store");
  const config = `host: 127.0.0.1\nport: ${port}\njetstream { store_dir: "${store}" }\n${extraConfig}\n`;
  await writeFile(configPath, config);
  let child: ChildProcess | undefined;
  const nats: TestNats = {
    port,
    url: `nats://127.0.0.1:${port}`,
    async start() {
      child = await launch(configPath);
    },
    async stop() {
      if (child === undefined || child.exitCode !== null) return;
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
      child = undefined;
    },
    wipe: () => rm(store, { recursive: true, force: true }),
    async [Symbol.asyncDispose]() {
      await nats.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
  await nats.start();
  return nats;
}

export interface TestCluster extends AsyncDisposable {
  readonly servers: readonly TestNats[];
  /** Of all of them. */
  readonly url: string;
}

/** Three servers that know each other, as docs/operations/ha.md has it. */
export async function startTestCluster(): Promise<TestCluster> {
  const ports = await Promise.all([freePort(), freePort(), freePort()]);
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(", ");
  const servers = await Promise.all(
    ports.map((port, index) =>
      startTestNats(
        `server_name: n${index + 1}\ncluster { name: test, listen: "127.0.0.1:${port}", routes: [${routes}] }`,
      ),
    ),
  );
  return {
    servers,
    url: servers.map(({ url }) => url).join(","),
    async [Symbol.asyncDispose]() {
      for (const server of servers) await server[Symbol.asyncDispose]();
    },
  };
}

async function launch(configPath: string): Promise<ChildProcess> {
  const child = spawn("nats-server", ["-c", configPath], { stdio: ["ignore", "ignore", "pipe"] });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let output = "";
  child.stderr.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    if (output.includes("Server is ready")) resolve();
  });
  child.once("error", reject);
  child.once("exit", (code) => reject(new Error(`nats-server ended with ${code}: ${output}`)));
  await promise;
  return child;
}

/** Given out already: a server of a cluster may not have taken its own yet. */
const given = new Set<number>();

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  if (given.has(port)) return await freePort();
  given.add(port);
  return port;
}
