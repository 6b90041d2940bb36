/**
 * Where the files of a container are.
 *
 * In the bundle: `ctl`, `winsz` and `attach` (made by conmon), and `supervisor/` with pid files, the exit code and the logs
 * of conmon and the runtime. In the state directory: the runtime's own root per namespace (so that ids need be unique in
 * their namespace only), and one exit directory per namespace, whose files are doorbells: the code itself is in the bundle.
 */
import { join } from "node:path";
import { StatusError } from "@berth/base";

export interface ContainerPaths {
  readonly supervisor: string;
  readonly conmonPid: string;
  readonly initPid: string;
  readonly identity: string;
  readonly exitCode: string;
  readonly unknownExit: string;
  readonly oomMark: string;
  readonly runtimeLog: string;
  readonly control: string;
  readonly attach: string;
  /** What conmon leaves in the bundle itself. */
  readonly bundleSockets: readonly string[];
}

export function containerPaths(bundle: string): ContainerPaths {
  const supervisor = join(bundle, "supervisor");
  return {
    supervisor,
    conmonPid: join(supervisor, "conmon.pid"),
    initPid: join(supervisor, "init.pid"),
    identity: join(supervisor, "identity.json"),
    exitCode: join(supervisor, "exit"),
    unknownExit: join(supervisor, "unknown-exit.json"),
    oomMark: join(supervisor, "oom"),
    runtimeLog: join(supervisor, "runtime.log"),
    control: join(bundle, "ctl"),
    attach: join(bundle, "attach"),
    bundleSockets: ["ctl", "winsz", "attach"].map((name) => join(bundle, name)),
  };
}

/** Where the first process's pid is, once the container is created. */
export const initPidFile = (bundle: string): string => containerPaths(bundle).initPid;

export interface StatePaths {
  /** One directory per namespace, each a `--root` of the runtime. */
  readonly roots: string;
  root(namespace: string): string;
  exits(namespace: string): string;
}

export function statePaths(stateDir: string, name: string): StatePaths {
  const roots = join(stateDir, name, "root");
  return {
    roots,
    root: (namespace) => join(roots, namespace),
    exits: (namespace) => join(stateDir, name, "exits", namespace),
  };
}

const NAME = /^(?!\.{1,2}$)[a-zA-Z0-9._-]{1,76}$/;

/** Both become path components. @throws INVALID_ARGUMENT naming `id` or `namespace`. */
export function checkNames(namespace: string, id: string): void {
  const description = "must be 1 to 76 letters, digits, '.', '_' and '-'";
  const violations = [
    ...(NAME.test(namespace) ? [] : [{ field: "namespace", description }]),
    ...(NAME.test(id) ? [] : [{ field: "id", description }]),
  ];
  if (violations.length > 0) throw StatusError.invalid(violations);
}
