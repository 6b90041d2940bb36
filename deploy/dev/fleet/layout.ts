/** Where the development fleet keeps things: all of it beneath one `.berth/`. */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";

export const NODES = ["node-1", "node-2"] as const;
export const NAMESPACE = "demo";

/** The repository. */
export const ROOT = resolve(import.meta.dirname, "../../..");

export interface Layout {
  /** `.berth` itself. */
  readonly dir: string;
  /** Ports, chosen once. */
  readonly stateFile: string;
  /** Pid files. */
  readonly run: string;
  readonly logs: string;
  /** Configuration files of the programs; they hold passwords. */
  readonly config: string;
  /** The controller writes the first admin token here. */
  readonly tokenFile: string;
  /** What the command line reads. */
  readonly contextFile: string;
  /** Manifests of the demo. */
  readonly demo: string;
  /** The test hosts' network namespaces. */
  readonly hosts: string;
  server(name: string): string;
  /** Everything of one node. */
  node(name: string): string;
}

/** Makes the directories that must be there first; only their owner may enter. */
export function layoutIn(base: string): Layout {
  const dir = join(resolve(base), ".berth");
  const layout: Layout = {
    dir,
    stateFile: join(dir, "state.json"),
    run: join(dir, "run"),
    logs: join(dir, "logs"),
    config: join(dir, "config"),
    tokenFile: join(dir, "token"),
    contextFile: join(dir, "config.json"),
    demo: join(dir, "demo"),
    hosts: join(dir, "hosts"),
    server: (name) => join(dir, "servers", name),
    node: (name) => join(dir, "nodes", name),
  };
  return layout;
}

export function makeLayout(layout: Layout): void {
  for (const path of [layout.dir, layout.run, layout.logs, layout.config, layout.demo]) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  }
}
