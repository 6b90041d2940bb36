/** The programs that the agent starts. */
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";
import type { Check, CheckContext, Finding } from "./finding.ts";

interface Program {
  readonly name: string;
  readonly debian: string;
  readonly why: string;
  /** Without it the agent does not start, or pulls or networks do not work. */
  readonly needed: boolean;
}

const PROGRAMS: readonly Program[] = [
  { name: "conmon", debian: "conmon", why: "supervises containers", needed: true },
  { name: "ip", debian: "iproute2", why: "makes network namespaces", needed: true },
  { name: "unshare", debian: "util-linux", why: "makes network namespaces", needed: true },
  { name: "iptables", debian: "iptables", why: "port mappings and address translation", needed: false },
  { name: "igzip", debian: "isal", why: "its library unpacks gzip layers twice as fast", needed: false },
  { name: "zstd", debian: "zstd", why: "unpacks zstd layers", needed: false },
];

const CNI_PLUGINS = ["bridge", "host-local", "loopback", "portmap", "firewall"];

export const programsCheck: Check = (context) => {
  const handlers = Object.entries(context.config.runtimeHandlers).map(([name, { binary }]) => ({
    name: binary,
    debian: binary.split("/").at(-1)!,
    why: `runtime handler ${name}`,
    needed: false,
  }));
  const found = [...PROGRAMS, ...handlers].map((program) => finding(context, program));
  const usable = found.slice(PROGRAMS.length).some(({ status }) => status === "ok");
  return [...found, ...(usable ? [] : [noRuntime()]), cniFinding(context.config.cni.binDir)];
};

function finding({ path }: CheckContext, { name, debian, why, needed }: Program): Finding {
  const check = `programs/${name.split("/").at(-1)}`;
  const at = findProgram(name, path);
  if (at !== undefined) return { check, status: "ok", detail: at };
  const detail = `${name} is not installed (${why})`;
  return { check, status: needed ? "fail" : "warn", detail, remedy: `on Debian: apt install ${debian}` };
}

function noRuntime(): Finding {
  const detail = "no runtime handler of the configuration is installed, so the agent will not start";
  return { check: "programs/runtimes", status: "fail", detail, remedy: "on Debian: apt install runc" };
}

function cniFinding(binDir: string): Finding {
  const check = "programs/cni";
  const missing = CNI_PLUGINS.filter((name) => !existsSync(join(binDir, name)));
  if (missing.length === 0) return { check, status: "ok", detail: binDir };
  const detail = `${binDir} lacks the network plugins ${missing.join(", ")}`;
  return {
    check,
    status: "fail",
    detail,
    remedy: "on Debian: apt install containernetworking-plugins; or set cni.binDir",
  };
}

function findProgram(name: string, path: string): string | undefined {
  const candidates = isAbsolute(name) ? [name] : path.split(delimiter).map((directory) => join(directory, name));
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
