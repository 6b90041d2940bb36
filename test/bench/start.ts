/**
 * From an unpacked image: create a container, start `/bin/true` in it, wait for its end, delete it. One after the other, and
 * four at a time. Ours is the agent's engine; the peer is `ctr run --rm`, whose own start is measured beside it.
 */
import { join } from "node:path";
import { busyboxImage, pushImage, startRegistry } from "@berth/testkit";
import type { StartRequest, StartSetup, StartSide } from "./children/start.ts";
import { prepareAgent } from "./support/agent.ts";
import { runBench, type Bench } from "./support/bench.ts";
import { startChild } from "./support/child.ts";
import { startContainerd, type Containerd } from "./support/containerd.ts";
import { inParallel } from "./support/parallel.ts";
import { inPairs, timedMs, type BenchCase } from "./support/report.ts";

/** Containers per run: one alone is over too quickly to be compared. */
const SEQUENTIAL = 10;
const TOGETHER = 24;
const PARALLEL = 4;

interface Side {
  /** Runs so many containers and gives the milliseconds it took. */
  run(request: StartRequest): Promise<number>;
}

await runBench("start", { limitMinutes: 6, needsBytes: 256 * 2 ** 20 }, async (bench) => {
  const { lifetime, dir } = bench;
  const registry = lifetime.own(await startRegistry({ dir: join(dir, "registry") }));
  const { name: image } = await pushImage(registry, "bench/busybox", "v1", busyboxImage());
  const containerd = lifetime.own(await startContainerd(bench));
  await containerd.ctr("images", "pull", "--plain-http", image);
  const configFile = await prepareAgent(bench, registry);
  const setup: StartSetup = { configFile, image, handler: "runc" };
  const child = lifetime.own(await startChild<StartSide>("start", setup, bench));
  const ours: Side = { run: async (request) => (await child.run(request)).ms };
  const peers = ctrSide(containerd, image);
  // The first of ours pulls the image; and both sides have compiled or paged in their code.
  for (const side of [ours, peers]) await side.run({ containers: 5, parallel: 1 });

  const sequential = await measureSequential(bench, ours, peers, containerd);
  const together = await measureTogether(bench, ours, peers);
  noteTerms(bench);
  const against = `containerd ${containerd.version}`;
  return [
    ...sequential.map((each): BenchCase => ({ ...each, against })),
    { name: `${PARALLEL} at a time`, unit: "containers/s", better: "more", ...together, against },
  ];
});

function ctrSide(containerd: Containerd, image: string): Side {
  let made = 0;
  const once = async (): Promise<void> => {
    made += 1;
    await containerd.ctr("run", "--rm", "--seccomp", image, `true-${made}`, "/bin/true");
  };
  return { run: ({ containers, parallel }) => timedMs(() => inParallel(containers, parallel, once)) };
}

async function measureSequential(
  bench: Bench,
  ours: Side,
  peers: Side,
  containerd: Containerd,
): Promise<Omit<BenchCase, "against">[]> {
  const request = { containers: SEQUENTIAL, parallel: 1 };
  const ctrStarts: number[] = [];
  const result = await inPairs(
    { runs: bench.runs },
    async (run) => {
      bench.progress(`one after the other, run ${run + 1} of ${bench.runs}`);
      return (await ours.run(request)) / SEQUENTIAL;
    },
    async (run) => {
      const ms = (await peers.run(request)) / SEQUENTIAL;
      const start =
        (await timedMs(() => inParallel(SEQUENTIAL, 1, async () => void (await containerd.ctr("version"))))) /
        SEQUENTIAL;
      if (run >= 0) ctrStarts.push(start);
      return ms;
    },
  );
  const less = result.peer.map((ms, run) => ms - ctrStarts[run]!);
  return [
    { name: "one after the other", unit: "ms per container", ...result },
    { name: "the same, less the time of `ctr version`", unit: "ms per container", berth: result.berth, peer: less },
  ];
}

async function measureTogether(
  bench: Bench,
  ours: Side,
  peers: Side,
): Promise<{ readonly berth: number[]; readonly peer: number[] }> {
  const request = { containers: TOGETHER, parallel: PARALLEL };
  const perSecond = async (side: Side): Promise<number> => (TOGETHER / (await side.run(request))) * 1_000;
  return await inPairs(
    { runs: bench.runs },
    async (run) => {
      bench.progress(`${PARALLEL} at a time, run ${run + 1} of ${bench.runs}`);
      return await perSecond(ours);
    },
    () => perSecond(peers),
  );
}

function noteTerms(bench: Bench): void {
  bench.note(`a run is ${SEQUENTIAL} containers one after the other, or ${TOGETHER} of them ${PARALLEL} at a time`);
  bench.note(
    "both: runc, overlayfs, a network namespace of its own without interfaces but lo, the default seccomp profile",
  );
  bench.note(
    "berth: the engine of a running agent, from the durable intent to the removed container; every step journaled, the log in a file",
  );
  bench.note(
    "peer: `ctr run --rm --seccomp`, its wall clock; a process of ctr per container, so the second case takes off what `ctr version` takes",
  );
  bench.note(
    "four at a time, the processes of ctr compete for the processors with what they start; that is not taken off",
  );
}
