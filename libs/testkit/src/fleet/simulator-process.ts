/** Simulated agents as a process that tests start, kill and start again on the same records. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Daemon } from "../servers/daemon.ts";
import { programArgv, programEnv, writeConfig } from "./programs.ts";

export interface SimulatorStatus {
  readonly nodes: number;
  readonly leasesHeld: number;
  readonly unpublished: number;
  readonly unstored: number;
  readonly setsBehind: number;
}

export interface SimulatorProcess extends AsyncDisposable {
  /** Its records, all nodes' in one file. */
  readonly database: string;
  readonly logFile: string;
  readonly pid: number | undefined;
  /** Starts it and waits until every agent is up; a lease is another matter. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  status(): Promise<SimulatorStatus>;
}

export interface SimulatorSettings {
  /** Short-lived files; the records are beneath it, unless `directory` is given. */
  readonly dir: string;
  readonly count: number;
  readonly natsUrl: string;
  readonly redisUrl: string;
  /** Where `/healthz` is. */
  readonly listen: string;
  readonly directory?: string;
  /** Of the profile. */
  readonly profile?: Readonly<Record<string, unknown>>;
  readonly logLevel?: string;
}

const READY_TIMEOUT_MS = 120_000;

export function createSimulatorProcess(settings: SimulatorSettings): SimulatorProcess {
  const { dir, count, listen } = settings;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const directory = settings.directory ?? join(dir, "records");
  const [configFile, profileFile, logFile] = [
    join(dir, "config.json"),
    join(dir, "profile.json"),
    join(dir, "simulator.log"),
  ];
  writeConfig(configFile, {
    natsUrl: settings.natsUrl,
    redisUrl: settings.redisUrl,
    metricsListen: listen,
    logLevel: settings.logLevel ?? "info",
  });
  writeConfig(profileFile, { ...settings.profile, directory });
  let daemon: Daemon | undefined;
  const status = async (): Promise<SimulatorStatus> => {
    const response = await fetch(`http://${listen}/healthz`, { signal: AbortSignal.timeout(10_000) });
    return (await response.json()) as SimulatorStatus;
  };
  return {
    database: join(directory, "metadata.db"),
    logFile,
    get pid() {
      return daemon?.identity?.pid;
    },
    async start() {
      const simulate = ["--simulate", String(count), "--simulate-profile", profileFile];
      daemon = new Daemon({
        name: "simulator",
        argv: programArgv("node-agent", "--config", configFile, ...simulate),
        env: programEnv(),
        logFile,
        readyTimeoutMs: READY_TIMEOUT_MS,
        async probe() {
          const { nodes } = await status();
          if (nodes < count) throw new Error(`${nodes} of ${count} simulated agents are up`);
        },
      });
      await daemon.start();
    },
    stop: async () => await daemon?.stop(),
    kill: async () => await daemon?.kill(),
    status,
    async [Symbol.asyncDispose]() {
      await daemon?.stop();
    },
  };
}
