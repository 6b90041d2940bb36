/** What the fleet tests share: manifests, what `berth` tells about tasks, and what a node holds seen from outside. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import {
  cgroupDirs,
  entriesBeneath,
  mountsBeneath,
  pushHelloImage,
  type AgentProcess,
  type Fleet,
} from "@berth/testkit";

/** A task as `berth get tasks -o json` prints it; fields at their defaults are filled in. */
export interface TaskView {
  readonly metadata: { readonly name: string; readonly uid: string; readonly generation: string };
  readonly spec: {
    readonly node: string;
    readonly workload: string;
    readonly slot: number;
    readonly workloadGeneration: string;
  };
  readonly status: {
    readonly phase: string;
    readonly reason: string;
    readonly message: string;
    readonly certainty: string;
    readonly attempt: number;
    readonly restarts: number;
    readonly exitCode?: number;
    readonly oomKilled: boolean;
  };
}

export interface WorkloadOptions {
  readonly name: string;
  readonly image: string;
  readonly replicas: number;
  readonly args: readonly string[];
  readonly restart?: "always" | "onFailure" | "never";
  readonly memory?: string;
  readonly mounts?: readonly object[];
  readonly onNodeLoss?: string;
  /** Default 1 s. */
  readonly stopGrace?: string;
}

export function workloadManifest(options: WorkloadOptions): string {
  return JSON.stringify({
    apiVersion: "berth/v1",
    kind: "Workload",
    metadata: { name: options.name, namespace: "demo" },
    spec: {
      replicas: options.replicas,
      restart: { policy: options.restart ?? "always" },
      ...(options.onNodeLoss === undefined ? {} : { onNodeLoss: options.onNodeLoss }),
      container: {
        image: options.image,
        args: options.args,
        mounts: options.mounts ?? [],
        resources: options.memory === undefined ? {} : { memory: options.memory },
        stop: { grace: options.stopGrace ?? "1s" },
      },
    },
  });
}

export async function tasksOf(fleet: Fleet, workload: string): Promise<TaskView[]> {
  const text = await fleet.berth(["-n", "demo", "get", "tasks", "--workload", workload, "-o", "json"]);
  const items = JSON.parse(text === "" ? "[]" : text) as Partial<TaskView>[];
  return items.map((item) => ({
    metadata: item.metadata!,
    spec: { node: "", slot: 0, ...item.spec } as TaskView["spec"],
    status: {
      phase: "",
      reason: "",
      message: "",
      certainty: "",
      attempt: 0,
      restarts: 0,
      oomKilled: false,
      ...item.status,
    } as TaskView["status"],
  }));
}

/** An event as `berth events -o json` prints it. */
export interface EventView {
  readonly topic: string;
  readonly uid: string;
  readonly name: string;
  readonly node?: string;
  readonly journalEpoch?: string;
  readonly journalSeq?: string;
  readonly attributes?: Readonly<Record<string, string>>;
}

export async function eventsOf(fleet: Fleet, ...filters: string[]): Promise<EventView[]> {
  const args = filters.flatMap((filter) => ["--filter", filter]);
  return JSON.parse(await fleet.berth(["events", "-A", "--tail", "10000", "-o", "json", ...args])) as EventView[];
}

/** Starts of executions that the journals tell, by (task, generation, attempt). */
export async function startsByExecution(fleet: Fleet): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const event of await eventsOf(fleet, 'topic=="/tasks/start"')) {
    const execution = `${event.uid}/${event.attributes?.["generation"]}/${event.attributes?.["attempt"]}`;
    counts.set(execution, (counts.get(execution) ?? 0) + 1);
  }
  return counts;
}

/** Pushes the small busybox image to the fleet's registry and gives its reference. */
export async function pushHello(fleet: Fleet): Promise<string> {
  return await pushHelloImage(fleet.registry);
}

/** What a node still holds of containers; empty when it is clean. Image layers and blobs may stay. */
export async function nodeLeftovers(agent: AgentProcess): Promise<string[]> {
  const links = await agent.host.exec(["ip", "-o", "link", "show", "type", "veth"]);
  // The agent keeps its own groups as long as it lives.
  const own = ["", "/_supervisors", "/_stopper"].map((name) => `${agent.cgroupParent}${name}`);
  const cgroups = cgroupDirs(agent.cgroupParent).filter((dir) => !own.some((each) => dir.endsWith(each)));
  return [
    ...mountsBeneath(join(agent.root, "..")).map((point) => `mount ${point}`),
    ...cgroups.map((dir) => `cgroup ${dir}`),
    ...agent.processes().map(({ pid }) => `process ${pid}`),
    ...containerVeths(links).map((line) => `link ${line}`),
    ...entriesBeneath(join(agent.state, "netns"), 1).map((name) => `netns ${name}`),
    ...bundles(agent).map((name) => `bundle ${name}`),
  ];
}

/** veth ends in the node's namespace whose peer was a container's; the uplink is the host's own. */
function containerVeths(output: string): string[] {
  return output.split("\n").filter((line) => /\bveth/.test(line.split(":")[1] ?? ""));
}

function bundles(agent: AgentProcess): string[] {
  try {
    return readdirSync(join(agent.state, "bundles"), { recursive: false }).map(String);
  } catch {
    return [];
  }
}
