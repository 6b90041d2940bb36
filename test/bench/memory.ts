/**
 * What a node costs in memory: the agent itself, idle and with 20 containers, and the supervisor that each container has
 * beside it. The peer: containerd and its shims, with 20 containers of the same image.
 */
import { busyboxImage, eventually, pushImage, startFleet, type Fleet } from "@berth/testkit";
import { runBench, type Bench } from "./support/bench.ts";
import { startContainerd, type Containerd } from "./support/containerd.ts";
import { memoryOf, rssOf, settled } from "./support/process-memory.ts";
import { processesNaming } from "./support/processes.ts";
import type { BenchCase } from "./support/report.ts";

const CONTAINERS = 20;
/** A controller's default; tests have shorter ones. */
const LEASE_TTL_MS = 15_000;
/** Longer than the agent waits before it gives back what it does not need. */
const SETTLE = { quietMs: 25_000, timeoutMs: 90_000 };
const COMMAND = ["/bin/sleep", "3600"];

interface Side {
  readonly idle: number;
  readonly loaded: number;
  /** Per container, on average. */
  readonly pss: number;
  readonly private: number;
}

await runBench("memory", { limitMinutes: 25, needsBytes: 512 * 2 ** 20 }, async (bench) => {
  const { lifetime, dir } = bench;
  process.env["TMPDIR"] = dir; // where a fleet makes its directory
  const fleet = lifetime.own(await startFleet({ nodes: 1, leaseTtlMs: LEASE_TTL_MS }));
  const { name: image } = await pushImage(fleet.registry, "bench/busybox", "v1", busyboxImage());
  const containerd = lifetime.own(await startContainerd(bench));
  const { username, password } = fleet.registry.credentials!;
  await containerd.ctr("images", "pull", "--plain-http", "--user", `${username}:${password}`, image);
  await fleet.berth(["ns", "create", "bench"]);
  const measured: { readonly berth: Side; readonly peer: Side }[] = [];
  for (let run = 0; run < bench.runs; run += 1) {
    bench.progress(`run ${run + 1} of ${bench.runs}`);
    measured.push(await measure(bench, fleet, containerd, image));
  }
  noteTerms(bench, fleet, containerd);
  const of = (name: string, key: keyof Side): BenchCase => ({
    name,
    unit: "MB",
    berth: measured.map(({ berth }) => berth[key]),
    peer: measured.map(({ peer }) => peer[key]),
    against: key === "idle" || key === "loaded" ? `containerd ${containerd.version}` : "containerd-shim-runc-v2",
  });
  return [
    of("agent idle, Rss", "idle"),
    of(`agent with ${CONTAINERS} containers, Rss`, "loaded"),
    of("supervisor per container, Pss", "pss"),
    of("supervisor per container, private", "private"),
  ];
});

/** Both sides stand side by side, since both only wait: started anew, settled, loaded, settled again. */
async function measure(
  bench: Bench,
  fleet: Fleet,
  containerd: Containerd,
  image: string,
): Promise<{ readonly berth: Side; readonly peer: Side }> {
  const agent = fleet.agents[0]!;
  await agent.stop();
  await agent.start();
  await containerd.restart();
  const pids = [agent.pid!, containerd.pid] as const;
  await settle(bench, pids);
  const [idle, peerIdle] = pids.map(rssOf);

  await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "120s"], manifestOf(image));
  for (let index = 0; index < CONTAINERS; index += 1) {
    await containerd.ctr("run", "--detach", image, `sleep-${index}`, ...COMMAND);
  }
  await settle(bench, pids);
  const supervisors = exactly(processesNaming(`${agent.state}/`, "conmon"), "conmon");
  const shims = exactly(processesNaming(containerd.address, "containerd-shim"), "containerd-shim-runc-v2");
  const [loaded, peerLoaded] = pids.map(rssOf);
  const sides = {
    berth: { idle: idle!, loaded: loaded!, ...perContainer(supervisors) },
    peer: { idle: peerIdle!, loaded: peerLoaded!, ...perContainer(shims) },
  };

  await fleet.berth(["-n", "bench", "delete", "workload", "sleepers", "--wait", "--timeout", "120s"]);
  await containerd.removeContainers();
  await eventually("all supervisors gone", () => processesNaming(`${agent.state}/`, "conmon").length === 0);
  return sides;
}

async function settle(bench: Bench, pids: readonly number[]): Promise<void> {
  if (await settled(pids, SETTLE)) return;
  bench.note(`an Rss had not settled after ${SETTLE.timeoutMs / 1_000} s and was taken as it was`);
}

function exactly(pids: readonly number[], what: string): readonly number[] {
  if (pids.length !== CONTAINERS) throw new Error(`${pids.length} processes of ${what} run instead of ${CONTAINERS}`);
  return pids;
}

function perContainer(pids: readonly number[]): Pick<Side, "pss" | "private"> {
  const all = pids.map(memoryOf);
  const mean = (key: "pss" | "private"): number => all.reduce((sum, each) => sum + each[key], 0) / all.length;
  return { pss: mean("pss"), private: mean("private") };
}

function manifestOf(image: string): string {
  return JSON.stringify({
    apiVersion: "berth/v1",
    kind: "Workload",
    metadata: { name: "sleepers", namespace: "bench" },
    spec: { replicas: CONTAINERS, container: { image, command: COMMAND, stop: { grace: "1s" } } },
  });
}

function noteTerms(bench: Bench, fleet: Fleet, { version }: Containerd): void {
  bench.note(
    `a real agent in a fleet of one node (${fleet.agents[0]!.name}), started anew for each run; containerd likewise`,
  );
  bench.note(
    `settled: no change of Rss by more than two hundredths for ${SETTLE.quietMs / 1_000} s; nobody scrapes metrics meanwhile`,
  );
  bench.note(
    `supervisors: conmon, and one containerd-shim-runc-v2 of ${version} per container; by /proc/PID/smaps_rollup`,
  );
  bench.note(
    "containerd's CRI service is switched off, which makes its daemon smaller than a kubelet's; 1 MB is 10^6 bytes",
  );
}
