/** A control plane with real Postgres, Redis and NATS, the real controller, and simulated agents in a process of their own. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Lifetime } from "@berth/base";
import { NamespaceService, NodeService, TaskService, WorkloadService } from "@berth/proto";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
import {
  createControllerProcess,
  createSimulatorProcess,
  freePort,
  scratchDir,
  startNats,
  startPostgres,
  startRedis,
  type ControllerProcess,
  type NatsServer,
  type PostgresServer,
  type RedisServer,
  type SimulatorProcess,
} from "@berth/testkit";
import postgres, { type Sql } from "postgres";

export interface SimulatedFleet extends AsyncDisposable {
  readonly postgres: PostgresServer;
  readonly redis: RedisServer;
  readonly nats: NatsServer;
  readonly controller: ControllerProcess;
  /** Serves the API and nothing else; the clients below ask it. Undefined: they ask `controller`. */
  readonly apiController: ControllerProcess | undefined;
  readonly simulator: SimulatorProcess;
  /** Another one, on the same control plane. */
  startSimulator(name: string, count: number, profile: Readonly<Record<string, unknown>>): Promise<SimulatorProcess>;
  readonly sql: Sql;
  /** For clients of other services. */
  readonly access: { readonly endpoint: string; readonly token: string };
  readonly namespaces: GrpcClient<typeof NamespaceService>;
  readonly workloads: GrpcClient<typeof WorkloadService>;
  readonly tasks: GrpcClient<typeof TaskService>;
  readonly nodes: GrpcClient<typeof NodeService>;
}

export interface SimulatedFleetOptions {
  readonly count: number;
  readonly profile?: Readonly<Record<string, unknown>>;
  /** Everything is beneath it; a scratch directory, else. */
  readonly dir?: string;
  /** Another controller serves the API. Default false. */
  readonly apiApart?: boolean;
  /** Of the controller's configuration. */
  readonly controller?: Readonly<Record<string, unknown>>;
}

export async function startSimulatedFleet(options: SimulatedFleetOptions): Promise<SimulatedFleet> {
  const lifetime = new Lifetime();
  try {
    return await assemble(lifetime, options);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]();
    throw error;
  }
}

async function assemble(lifetime: Lifetime, options: SimulatedFleetOptions): Promise<SimulatedFleet> {
  const dir = options.dir ?? lifetime.own(scratchDir("berth-simulated")).dir;
  const [database, redis, nats] = await Promise.all([
    startPostgres({ dir: join(dir, "postgres") }).then((server) => lifetime.own(server)),
    startRedis({ dir: join(dir, "redis") }).then((server) => lifetime.own(server)),
    startNats({ dir: join(dir, "nats") }).then((server) => lifetime.own(server)),
  ]);
  const tokenFile = join(dir, "token");
  const startController = async (name: string, more: Readonly<Record<string, unknown>>) => {
    const listen = { grpc: `127.0.0.1:${await freePort()}`, http: `127.0.0.1:${await freePort()}` };
    const config = {
      databaseUrl: database.url,
      redisUrl: redis.url,
      natsUrl: nats.url,
      listen,
      bootstrapTokenFile: tokenFile,
      logLevel: "warn",
      ...options.controller,
      ...more,
    };
    const process = lifetime.own(createControllerProcess({ dir: join(dir, name), config }));
    await process.start();
    return { process, endpoint: listen.grpc };
  };
  const { process: controller, endpoint: own } = await startController("controller", {});
  const api = options.apiApart === true ? await startController("api", { serveOnly: true }) : undefined;
  const startSimulator: SimulatedFleet["startSimulator"] = async (name, count, profile) => {
    const started = createSimulatorProcess({
      dir: join(dir, name),
      count,
      natsUrl: nats.url,
      redisUrl: redis.url,
      listen: `127.0.0.1:${await freePort()}`,
      profile,
    });
    await started.start();
    return started;
  };
  const simulator = lifetime.own(await startSimulator("simulator", options.count, options.profile ?? {}));
  const sql = postgres(database.url, { max: 2, onnotice: () => {} });
  lifetime.defer(() => sql.end({ timeout: 5 }));
  const access = { endpoint: api?.endpoint ?? own, token: readFileSync(tokenFile, "utf8").trim() };
  return {
    postgres: database,
    redis,
    nats,
    controller,
    apiController: api?.process,
    simulator,
    startSimulator,
    sql,
    access,
    namespaces: lifetime.own(createGrpcClient(NamespaceService, access)),
    workloads: lifetime.own(createGrpcClient(WorkloadService, access)),
    tasks: lifetime.own(createGrpcClient(TaskService, access)),
    nodes: lifetime.own(createGrpcClient(NodeService, access)),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}
