/**
 * Bulk bytes through exec and cp, both ways, beside readers that stall: what `test/e2e/streams-load.test.ts` and
 * `npm run soak -- streams` share.
 *
 * Content is seeded and never held: each transfer is hashed on its way. Beside them run an exec and a copy whose output nobody
 * reads. Meanwhile the node must stay Ready in every version that a watch tells, and controller and agent are sampled.
 */
import assert from "node:assert/strict";
import { createHash, type Hash } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Lifetime, seededRandom } from "@berth/base";
import { NodeService, TaskService } from "@berth/proto";
import { createGrpcClient } from "@berth/rpc";
import type { Fleet } from "@berth/testkit";

export interface StreamLoad {
  /** Of a running task with a shell, whose node is the fleet's first. */
  readonly task: string;
  readonly bytes: number;
  readonly seed: number;
}

export interface TransferReport {
  readonly name: string;
  readonly seconds: number;
  readonly megabytesPerSecond: number;
  /** The most at any sample, beyond what was taken before. */
  readonly controllerMegabytes: number;
  readonly agentMegabytes: number;
}

/** @throws AssertionError when a byte differs or the node was anything but Ready. */
export async function runStreamLoad(fleet: Fleet, load: StreamLoad): Promise<readonly TransferReport[]> {
  await using lifetime = new Lifetime();
  const source = join(fleet.dir, "load.bin");
  const expected = writeContent(source, load);
  const phases = watchPhases(fleet, lifetime);
  await stallReaders(fleet, lifetime, load.task);
  const { task, bytes } = load;
  const inTask = (script: string): string[] => ["exec", "-i", task, "--", "sh", "-c", script];
  const transfers: readonly (readonly [name: string, run: () => Promise<string>])[] = [
    ["exec in", () => hashOf(fleet, inTask("sha256sum"), source)],
    ["cp in", () => hashOf(fleet, ["cp", source, `${task}:/tmp/load.bin`])],
    ["exec out", () => hashOf(fleet, inTask("cat /tmp/load.bin"))],
    ["cp out", () => hashOf(fleet, ["cp", `${task}:/tmp/load.bin`, "-"])],
  ];
  const reports: TransferReport[] = [];
  for (const [name, run] of transfers) {
    const { result, report } = await measured(fleet, name, bytes, run);
    reports.push(report);
    if (name === "exec in") assert.equal(result.split(" ")[0], expected, "what the task hashed");
    else if (name !== "cp in") assert.equal(result, expected, name);
  }
  assert.deepEqual([...phases()], ["Ready"], "the node's lease was held all along");
  return reports;
}

/** Whole blocks of seeded bytes, each with its number, so that none can stand for another. Gives their sha256. */
function writeContent(path: string, { bytes, seed }: StreamLoad): string {
  const random = seededRandom(seed);
  const block = Buffer.from(Array.from({ length: 64 * 1024 }, () => Math.floor(random() * 256)));
  const hash = createHash("sha256");
  const fd = openSync(path, "w");
  try {
    for (let at = 0; at < bytes; at += block.length) {
      block.writeDoubleLE(at, 0);
      const part = block.subarray(0, Math.min(block.length, bytes - at));
      hash.update(part);
      writeSync(fd, part);
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest("hex");
}

/** Runs `berth` with a file as its input; gives the sha256 of what it prints, or the text when it printed little. */
async function hashOf(fleet: Fleet, args: readonly string[], input?: string): Promise<string> {
  const stdin = input === undefined ? "ignore" : openSync(input, "r");
  const child = fleet.spawnBerth(["-n", "demo", ...args], stdin);
  if (typeof stdin === "number") closeSync(stdin);
  const hash: Hash = createHash("sha256");
  let head = "";
  let errors = "";
  let printed = 0;
  child.stdout!.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    printed += chunk.length;
    if (printed <= 1_024) head += chunk.toString();
  });
  child.stderr!.on("data", (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-2_048)));
  const [code] = (await once(child, "close")) as [number];
  assert.equal(code, 0, errors);
  return printed <= 1_024 ? head : hash.digest("hex");
}

/** An exec and a copy whose output is asked for and not read. */
async function stallReaders(fleet: Fleet, lifetime: Lifetime, task: string): Promise<void> {
  const client = lifetime.own(createGrpcClient(TaskService, clientOptions(fleet)));
  const stop = new AbortController();
  lifetime.defer(() => stop.abort());
  const open = { namespace: "demo", name: task, command: ["yes"] };
  const exec = client.exec(
    (async function* () {
      yield { message: { case: "open" as const, value: open } };
      await once(stop.signal, "abort");
    })(),
    { signal: stop.signal },
  );
  const copy = client.copyOut({ namespace: "demo", name: task, path: "/bin" }, { signal: stop.signal });
  await Promise.all([exec[Symbol.asyncIterator]().next(), copy[Symbol.asyncIterator]().next()]);
}

/** Every phase of the node that a watch has told. */
function watchPhases(fleet: Fleet, lifetime: Lifetime): () => ReadonlySet<string> {
  const client = lifetime.own(createGrpcClient(NodeService, clientOptions(fleet)));
  const phases = new Set<string>();
  lifetime.loop(
    async (signal) => {
      for await (const { node } of client.watchNodes({}, { signal })) {
        if (node?.status !== undefined) phases.add(node.status.phase);
      }
    },
    () => {},
  );
  return () => phases;
}

const SAMPLE_MS = 100;

async function measured<T>(
  fleet: Fleet,
  name: string,
  bytes: number,
  run: () => Promise<T>,
): Promise<{ readonly result: T; readonly report: TransferReport }> {
  const pids = [fleet.controller.pid!, fleet.agents[0]!.pid!] as const;
  const before = pids.map(residentMegabytes);
  const most = [...before];
  const sampling = setInterval(() => {
    pids.forEach((pid, index) => (most[index] = Math.max(most[index]!, residentMegabytes(pid))));
  }, SAMPLE_MS);
  const begun = performance.now();
  try {
    const result = await run();
    const seconds = (performance.now() - begun) / 1_000;
    const [controllerMegabytes, agentMegabytes] = most.map((value, index) => value - before[index]!) as [
      number,
      number,
    ];
    const megabytesPerSecond = bytes / 1e6 / seconds;
    return { result, report: { name, seconds, megabytesPerSecond, controllerMegabytes, agentMegabytes } };
  } finally {
    clearInterval(sampling);
  }
}

function residentMegabytes(pid: number): number {
  const [, kilobytes = "0"] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) / 1024;
}

function clientOptions(fleet: Fleet): { readonly endpoint: string; readonly token: string } {
  return { endpoint: new URL(fleet.controller.grpcEndpoint).host, token: fleet.token() };
}
