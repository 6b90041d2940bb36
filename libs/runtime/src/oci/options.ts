/** What a handler is made of. */
import { silentLogger, StatusError, systemClock, type Clock, type FieldViolation, type Logger } from "@berth/base";

export interface OciRuntimeDeps {
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export interface OciRuntimeOptions {
  /** The handler's name: `runc`. */
  readonly name: string;
  /** Absolute path of the runtime. */
  readonly binary: string;
  readonly conmonPath: string;
  /** Absolute; best on a tmpfs (`/run/berth/runtime`): what is in it means nothing after a reboot. */
  readonly stateDir: string;
  /** Put before every subcommand, e.g. `--platform=ptrace` for runsc. */
  readonly globalArgs?: readonly string[];
  /** Where conmon processes live, so that stopping the agent's own cgroup leaves them alone. `false`: where the agent is. */
  readonly supervisorCgroup?: string | false;
  /** How soon a supervisor that died is found out. Default 1,000. */
  readonly pollMs?: number;
}

export interface ResolvedOptions {
  readonly name: string;
  readonly binary: string;
  readonly conmonPath: string;
  readonly stateDir: string;
  readonly globalArgs: readonly string[];
  readonly supervisorCgroup: string | undefined;
  readonly pollMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** @throws INVALID_ARGUMENT naming the options at fault. */
export function resolveOptions(deps: OciRuntimeDeps, options: OciRuntimeOptions): ResolvedOptions {
  const paths = ["binary", "conmonPath", "stateDir"] as const;
  const violations: FieldViolation[] = paths
    .filter((field) => !options[field].startsWith("/"))
    .map((field) => ({ field, description: "must be an absolute path" }));
  if (!/^[a-zA-Z0-9._-]{1,76}$/.test(options.name)) {
    violations.push({ field: "name", description: "must be 1 to 76 letters, digits, '.', '_' and '-'" });
  }
  if (violations.length > 0) throw StatusError.invalid(violations);
  const cgroup = options.supervisorCgroup ?? "/berth-supervisors";
  return {
    name: options.name,
    binary: options.binary,
    conmonPath: options.conmonPath,
    stateDir: options.stateDir,
    globalArgs: options.globalArgs ?? [],
    supervisorCgroup: cgroup === false ? undefined : cgroup,
    pollMs: options.pollMs ?? 1000,
    clock: deps.clock ?? systemClock,
    logger: deps.logger ?? silentLogger,
  };
}
