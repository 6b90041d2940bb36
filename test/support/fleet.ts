/**
 * What the fleet tests share: manifests, what the API tells about tasks, events and nodes, and what a node holds seen from outside.
 *
 * What is asked again and again until it is so is asked of the API from here: a `berth` for each look would take more of the two
 * cores than the fleet. What a user sees is asserted by `fleet.berth`.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { toJson, type DescService } from "@bufbuild/protobuf";
import { EventSchema, EventService, NodeSchema, NodeService, TaskSchema, TaskService } from "@berth/proto";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
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

/** One question to the API, on a connection of its own, so that what was cut or killed since the last one does not matter. */
export async function ask<S extends DescService, T>(
  fleet: Fleet,
  service: S,
  question: (client: GrpcClient<S>) => Promise<T>,
): Promise<T> {
  const endpoint = fleet.controller.grpcEndpoint.replace("http://", "");
  using client = createGrpcClient(service, { endpoint, token: fleet.token() });
  return await question(client);
}

export async function tasksOf(fleet: Fleet, workload: string): Promise<TaskView[]> {
  const { items } = await ask(fleet, TaskService, (client) =>
    client.listTasks({ namespace: "demo", workload, pageSize: 1_000 }),
  );
  const documents = items.map((item) => toJson(TaskSchema, item)) as Partial<TaskView>[];
  return documents.map((item) => ({
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

export interface NodeView {
  readonly metadata: { readonly name: string };
  readonly status: { readonly phase: string; readonly agentVersion: string };
}

/** As `berth get nodes -o json` prints them. */
export async function nodesOf(fleet: Fleet): Promise<NodeView[]> {
  const { items } = await ask(fleet, NodeService, (client) => client.listNodes({}));
  return items.map((item) => toJson(NodeSchema, item) as unknown as NodeView);
}

export async function phaseOf(fleet: Fleet, node: string): Promise<string | undefined> {
  return (await nodesOf(fleet)).find(({ metadata }) => metadata.name === node)?.status.phase;
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
  const { items } = await ask(fleet, EventService, (client) =>
    client.listEvents({ namespace: "-", filters, tail: 10_000 }),
  );
  return items.map((item) => toJson(EventSchema, item) as unknown as EventView);
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
