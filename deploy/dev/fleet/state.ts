/** What is remembered between runs: ports (chosen once, so that URLs stay) and which process is which. */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, isAlive, type ProcessIdentity } from "@berth/testkit/servers";
import type { Layout } from "./layout.ts";

type Ports = Record<string, number>;

/** The port of a server: the remembered one, else a free one, remembered from now on. */
export async function portOf(layout: Layout, name: string, host: string): Promise<number> {
  const ports = readPorts(layout);
  const port = ports[name] ?? (await freePort(host));
  writePorts(layout, { ...ports, [name]: port });
  return port;
}

/** Another port, when the remembered one is taken by somebody else. */
export function forgetPort(layout: Layout, name: string): void {
  const { [name]: _, ...rest } = readPorts(layout);
  writePorts(layout, rest);
}

function readPorts(layout: Layout): Ports {
  if (!existsSync(layout.stateFile)) return {};
  return (JSON.parse(readFileSync(layout.stateFile, "utf8")) as { ports?: Ports }).ports ?? {};
}

function writePorts(layout: Layout, ports: Ports): void {
  writePrivate(layout.stateFile, `${JSON.stringify({ ports }, undefined, 2)}\n`);
}

/** Whole or not at all, and readable by its owner alone. True when the content is new. */
export function writePrivate(file: string, text: string): boolean {
  if (existsSync(file) && readFileSync(file, "utf8") === text) return false;
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, text, { mode: 0o600 });
  renameSync(temporary, file);
  return true;
}

/** Remembers a process: pid and start time, so that another process of that pid is never taken for it. */
export function remember(layout: Layout, name: string, identity: ProcessIdentity): void {
  writePrivate(join(layout.run, `${name}.pid`), `${identity.pid} ${identity.startTicks}\n`);
}

/** The remembered process, if it still runs. */
export function remembered(layout: Layout, name: string): ProcessIdentity | undefined {
  const file = join(layout.run, `${name}.pid`);
  if (!existsSync(file)) return undefined;
  const [pid, startTicks = ""] = readFileSync(file, "utf8").trim().split(" ");
  const identity = { pid: Number(pid), startTicks };
  return isAlive(identity) ? identity : undefined;
}

export function forget(layout: Layout, name: string): void {
  rmSync(join(layout.run, `${name}.pid`), { force: true });
}

/** The names of all remembered processes. */
export function rememberedNames(layout: Layout): string[] {
  if (!existsSync(layout.run)) return [];
  return readdirSync(layout.run)
    .filter((file) => file.endsWith(".pid"))
    .map((file) => file.slice(0, -".pid".length));
}
