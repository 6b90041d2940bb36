/** The real controller as a process that tests start, crash at a failpoint, kill and start again. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Daemon } from "../servers/daemon.ts";
import { waitForExit } from "../servers/process.ts";
import { programArgv, programEnv, writeConfig, type Build } from "./programs.ts";

export interface ControllerProcess extends AsyncDisposable {
  readonly grpcEndpoint: string;
  readonly httpEndpoint: string;
  readonly logFile: string;
  readonly running: boolean;
  readonly pid: number | undefined;
  /** Starts it, optionally so that it kills itself at a failpoint, and waits until it serves. */
  start(crashAt?: string): Promise<void>;
  /** From the next start on, it is the program of this build. */
  use(build: Build): void;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Waits until it has ended by itself (at its failpoint); false when it still runs after that long. */
  ended(timeoutMs: number): Promise<boolean>;
}

export interface ControllerSettings {
  readonly dir: string;
  /** Default this repository. */
  readonly build?: Build | undefined;
  /** More than its own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** The words that run it on a host of its own. */
  readonly enter?: readonly string[];
  readonly config: Readonly<Record<string, unknown>> & {
    readonly listen: { readonly grpc: string; readonly http: string };
  };
}

export function createControllerProcess(settings: ControllerSettings): ControllerProcess {
  const { dir, enter = [], config, env = {} } = settings;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const configFile = join(dir, "config.json");
  const logFile = join(dir, "controller.log");
  const httpEndpoint = `http://${config.listen.http}`;
  writeConfig(configFile, config);
  let daemon: Daemon | undefined;
  let build = settings.build ?? programArgv;
  return {
    grpcEndpoint: `http://${config.listen.grpc}`,
    httpEndpoint,
    logFile,
    get running() {
      return daemon?.running ?? false;
    },
    get pid() {
      return daemon?.identity?.pid;
    },
    async start(crashAt) {
      daemon = new Daemon({
        name: "controller",
        argv: [...enter, ...build("controller")],
        env: programEnv({
          ...env,
          BERTH_CONTROLLER_CONFIG: configFile,
          ...(crashAt === undefined ? {} : { BERTH_CRASH_AT: crashAt }),
        }),
        logFile,
        probe: () => probeReady(`${httpEndpoint}/readyz`),
      });
      await daemon.start();
    },
    use(next) {
      build = next;
    },
    async stop() {
      await daemon?.stop();
    },
    async kill() {
      await daemon?.kill();
    },
    async ended(timeoutMs) {
      const identity = daemon?.identity;
      return identity === undefined || (await waitForExit(identity, timeoutMs));
    },
    async [Symbol.asyncDispose]() {
      await daemon?.stop();
    },
  };
}

async function probeReady(url: string): Promise<void> {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
}
