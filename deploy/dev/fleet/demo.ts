/** What the newcomer sees: images, a namespace, a workload, its tasks, logs and events, by the commands they will use. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, relative } from "node:path";
import { StatusError } from "@berth/base";
import { filesImage, helloImage, pushImage } from "@berth/testkit/images";
import { eventually, type RegistryServer } from "@berth/testkit/servers";
import { NAMESPACE, NODES, ROOT, type Layout } from "./layout.ts";
import type { Controller } from "./programs.ts";
import { writePrivate } from "./state.ts";
import type { Steps } from "./steps.ts";

export interface DemoImages {
  readonly hello: string;
  readonly files: string;
}

export const FILES = 3_000;

/** Makes both images and pushes them; what the registry has is not sent again. */
export async function pushDemoImages(registry: RegistryServer): Promise<DemoImages> {
  const hello = await pushImage(registry, "demo/hello", "1", helloImage());
  const files = await pushImage(registry, "demo/files", "1", filesImage({ count: FILES }));
  return { hello: hello.name, files: files.name };
}

/** What `berth` reads when it is called beneath the repository. */
export function writeContext(layout: Layout, controller: Controller): void {
  const { endpoint, httpEndpoint, token } = controller;
  const context = { endpoint, httpEndpoint, token, namespace: NAMESPACE };
  writePrivate(
    layout.contextFile,
    `${JSON.stringify({ currentContext: "dev", contexts: { dev: context } }, undefined, 2)}\n`,
  );
}

/** The parts of the API's answers that are looked at here. */
interface Resources {
  readonly items?: readonly {
    readonly metadata?: { readonly name?: string };
    readonly spec?: { readonly replicas?: number };
    readonly status?: { readonly phase?: string; readonly leaseRenewedAt?: string };
  }[];
}

/** Waits until the controller calls every node Ready, by a lease renewed after `sinceMs`: an older one proves nothing. */
export async function waitForNodes(controller: Controller, sinceMs: number): Promise<void> {
  await eventually(
    "nodes ready",
    async () => {
      const { items = [] } = await ask(controller, "/v1/nodes");
      const ready = items
        .filter(({ status }) => status?.phase === "Ready" && Date.parse(status.leaseRenewedAt ?? "") >= sinceMs)
        .map((node) => node.metadata?.name);
      const absent = NODES.filter((name) => !ready.includes(name));
      if (absent.length > 0) throw new Error(`${absent.join(", ")} not ready`);
      return true;
    },
    { timeoutMs: 60_000 },
  );
}

/** The name of some task of the demo, for the examples of how to go on. */
export async function someTask(controller: Controller): Promise<string> {
  const { items = [] } = await ask(controller, `/v1/namespaces/${NAMESPACE}/tasks`);
  return items[0]?.metadata?.name ?? "TASK";
}

async function ask(controller: Controller, path: string): Promise<Resources> {
  const response = await fetch(`${controller.httpEndpoint}${path}`, {
    headers: { authorization: `Bearer ${controller.token}` },
    signal: AbortSignal.timeout(5_000),
  });
  if (!response.ok) throw new Error(`${path}: the controller answers ${response.status}: ${await response.text()}`);
  return (await response.json()) as Resources;
}

/** The commands, one by one; each is shown before it runs. */
export async function runDemo(layout: Layout, controller: Controller, images: DemoImages, steps: Steps): Promise<void> {
  const namespace = join(layout.demo, "namespace.yaml");
  const workload = join(layout.demo, "hello.yaml");
  writePrivate(namespace, NAMESPACE_YAML);
  const berth = (...args: string[]): Promise<void> => runBerth(layout, steps, args);
  await berth("apply", "-f", namespace);
  writePrivate(workload, workloadYaml(images.hello, await replicasNow(controller)));
  await berth("pull", "--name", "demo-images", images.hello, images.files);
  await berth("apply", "-f", workload, "--wait");
  await berth("get", "tasks", "-o", "wide");
  await berth("logs", "hello", "--tail", "1");
  await berth("events", "--tail", "15");
}

/** Runs the real command line with our own input and output. */
async function runBerth(layout: Layout, steps: Steps, args: readonly string[]): Promise<void> {
  const base = join(layout.dir, "..");
  const shown = args.map((arg) => (arg.startsWith(layout.dir) ? relative(base, arg) : arg));
  steps.command(`berth ${shown.join(" ")}`);
  // Contexts of the user's own must not decide where the demo goes.
  const env = { ...process.env, XDG_CONFIG_HOME: join(layout.dir, "no-config") };
  for (const name of ["BERTH_CONTEXT", "BERTH_ENDPOINT", "BERTH_TOKEN"]) Reflect.deleteProperty(env, name);
  const child = spawn(join(ROOT, "bin/berth"), shown, { cwd: base, env, stdio: ["ignore", "inherit", "inherit"] });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new StatusError("INTERNAL", `berth ${shown.join(" ")} ended with ${code}`);
}

const NAMESPACE_YAML = `apiVersion: berth/v1
kind: Namespace
metadata:
  name: ${NAMESPACE}
spec:
  description: made by npm run up
`;

/** Somebody may have scaled the demo meanwhile: a later run leaves that as it is. */
async function replicasNow(controller: Controller): Promise<number> {
  const { items = [] } = await ask(controller, `/v1/namespaces/${NAMESPACE}/workloads`);
  return items.find(({ metadata }) => metadata?.name === "hello")?.spec?.replicas ?? 2;
}

function workloadYaml(image: string, replicas: number): string {
  return `apiVersion: berth/v1
kind: Workload
metadata:
  name: hello
  namespace: ${NAMESPACE}
spec:
  replicas: ${replicas}
  container:
    image: ${image}
    env:
      - name: GREETING
        value: hello
    resources:
      cpu: 100m
      memory: 32Mi
`;
}
