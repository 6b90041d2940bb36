/** The process part of a spec: arguments, environment and working directory out of the image's and the user's wishes. */
import { StatusError } from "@berth/base";
import type { OciImageConfig } from "@berth/model";
import type { ContainerConfig } from "./container-config.ts";

const DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Kubernetes' rule: `command` replaces Entrypoint and drops Cmd; `args` replaces Cmd.
 * @throws INVALID_ARGUMENT when nothing is left to run.
 */
export function processArgs(image: OciImageConfig, container: ContainerConfig): readonly string[] {
  const entrypoint = container.command ?? image.config?.Entrypoint ?? [];
  const cmd = container.args ?? (container.command === undefined ? (image.config?.Cmd ?? []) : []);
  const args = [...entrypoint, ...cmd];
  if (args.length === 0) {
    throw StatusError.invalid([
      { field: "spec.command", description: "nothing to run: neither the image nor the spec names a command" },
    ]);
  }
  return args;
}

/** PATH first unless given, the image's variables in their order, then the container's. */
export function processEnv(
  image: OciImageConfig,
  container: ContainerConfig,
  hostname: string | undefined,
): readonly string[] {
  const base = [
    DEFAULT_PATH,
    ...(hostname === undefined ? [] : [`HOSTNAME=${hostname}`]),
    ...(container.terminal === true ? ["TERM=xterm"] : []),
    ...(image.config?.Env ?? []),
  ];
  return mergeEnv(
    base,
    (container.env ?? []).map(({ name, value }) => `${name}=${value}`),
  );
}

/** Later settings of a name win but keep the place of the first. */
export function mergeEnv(base: readonly string[], overrides: readonly string[]): readonly string[] {
  const byName = new Map<string, string>();
  for (const setting of [...base, ...overrides]) {
    const equals = setting.indexOf("=");
    byName.set(equals < 0 ? setting : setting.slice(0, equals), setting);
  }
  return [...byName.values()];
}

export function processCwd(image: OciImageConfig, container: ContainerConfig): string {
  const cwd = container.workingDir ?? image.config?.WorkingDir;
  if (cwd === undefined || cwd === "") return "/";
  return cwd.startsWith("/") ? cwd : `/${cwd}`;
}
