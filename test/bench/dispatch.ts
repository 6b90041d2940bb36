/**
 * How fast a controller turns desired state into jobs, and journals into status. A real controller process on real Postgres,
 * Redis and NATS, with simulated nodes: they hold leases and say what agents would say, and run nothing.
 *
 * The peers are floors: what the same Redis needs to take the same jobs, and the same Postgres the same event rows, from one
 * client that does nothing else. No control plane can be faster than its floor; the ratio says how much it adds.
 */
import { decodeJob, type JobToAdd } from "@berth/jobs";
import { runBench, type Bench } from "./support/bench.ts";
import { NAMESPACE, startControlPlane, startServers, type ControlPlane } from "./support/control-plane.ts";
import { addBulkMs, insertEventsMs, readJobs } from "./support/floors.ts";
import { ENTRIES_PER_TASK, journalsOf, publishAll, type NodeJob } from "./support/journals.ts";
import { timedMs, type BenchCase } from "./support/report.ts";
import { untilCount } from "./support/until.ts";

const TASKS = 5_000;
/** Of an uncounted workload before: the controller has compiled its code when it counts. */
const WARMUP_TASKS = 500;
const ENTRIES = TASKS * ENTRIES_PER_TASK;
const TIMEOUT_MS = 120_000;

interface Measured {
  readonly dispatchMs: number;
  readonly ingestMs: number;
  readonly addBulkMs: number;
  readonly insertMs: number;
}

await runBench("dispatch", { limitMinutes: 15, needsBytes: 2 ** 30 }, async (bench) => {
  const servers = await startServers(bench);
  const measured: Measured[] = [];
  for (let run = 0; run < bench.runs; run += 1) {
    bench.progress(`run ${run + 1} of ${bench.runs}`);
    await using plane = await startControlPlane(bench, servers, `run${run}`);
    measured.push(await measure(bench, plane));
  }
  noteTerms(bench);
  return [
    perSecond("tasks applied to jobs in Redis", TASKS, measured, "dispatchMs", "addBulkMs", "bare addBulk"),
    perSecond("journal entries to stored", ENTRIES, measured, "ingestMs", "insertMs", "bare INSERT"),
  ];
});

async function measure(bench: Bench, plane: ControlPlane): Promise<Measured> {
  await applyUntilQueued(plane, "warm-up", WARMUP_TASKS, 0);
  const before = await readJobs(plane);
  await storeJournals(plane, before, []);

  const dispatchMs = await timedMs(() => applyUntilQueued(plane, "measured", TASKS, WARMUP_TASKS));
  bench.progress(`${TASKS} jobs after ${Math.round(dispatchMs)} ms`);
  const known = new Set(before.map(({ id }) => id));
  const jobs = (await readJobs(plane)).filter(({ id }) => !known.has(id));
  const ingestMs = await storeJournals(plane, jobs, before);
  bench.progress(`${ENTRIES} entries after ${Math.round(ingestMs)} ms`);
  await untilCount("tasks shown as running", TASKS + WARMUP_TASKS, () => runningTasks(plane), TIMEOUT_MS);

  await addBulkMs(plane, before);
  return {
    dispatchMs,
    ingestMs,
    addBulkMs: await addBulkMs(plane, jobs),
    insertMs: await insertEventsMs(plane, ENTRIES),
  };
}

async function applyUntilQueued(plane: ControlPlane, name: string, replicas: number, before: number): Promise<void> {
  await plane.workloads.applyWorkload({
    workload: { metadata: { namespace: NAMESPACE, name }, spec: specOf(replicas) },
  });
  await untilCount(`jobs of ${name} in Redis`, before + replicas, () => plane.waitingJobs(), TIMEOUT_MS);
}

function specOf(replicas: number) {
  return {
    replicas,
    container: {
      image: "registry.example/team/app:v1",
      args: ["serve", "--port=8080"],
      env: [
        { name: "GREETING", value: "hello" },
        { name: "INTERVAL_SECONDS", value: "5" },
      ],
      resources: { cpu: "10m", memory: "16Mi" },
    },
  };
}

/** From the first batch published to the last entry stored. */
async function storeJournals(
  plane: ControlPlane,
  jobs: readonly JobToAdd[],
  before: readonly JobToAdd[],
): Promise<number> {
  const [now, earlier] = [jobs, before].map((group) =>
    group.map(({ node, name, data }): NodeJob => ({ node, job: decodeJob(name, data).job })),
  );
  const journals = journalsOf(plane.nodes, now!, earlier!);
  const total = (jobs.length + before.length) * ENTRIES_PER_TASK;
  return await timedMs(async () => {
    const published = publishAll(plane, journals);
    await Promise.all([published, untilCount("journal entries stored", total, () => storedEntries(plane), TIMEOUT_MS)]);
  });
}

async function storedEntries({ sql }: ControlPlane): Promise<number> {
  const [row] = await sql<{ stored: number }[]>`select coalesce(sum(stored_seq), 0)::int as stored from journal_state`;
  return row!.stored;
}

async function runningTasks({ sql }: ControlPlane): Promise<number> {
  const [row] = await sql<{ running: number }[]>`select count(*)::int as running from tasks where phase = 'Running'`;
  return row!.running;
}

function perSecond(
  name: string,
  count: number,
  measured: readonly Measured[],
  ours: keyof Measured,
  floor: keyof Measured,
  against: string,
): BenchCase {
  const rates = (key: keyof Measured): number[] => measured.map((each) => (count / each[key]) * 1_000);
  return { name, unit: "per second", better: "more", berth: rates(ours), peer: rates(floor), against };
}

function noteTerms(bench: Bench): void {
  bench.note(
    `each run: a fresh controller process on an empty database, 20 simulated nodes, an uncounted workload of ${WARMUP_TASKS} tasks first`,
  );
  bench.note(
    `tasks: from the call of ApplyWorkload with ${TASKS} replicas over gRPC until ${TASKS} jobs wait in the queues (API, reconcile, placement, outbox, dispatch)`,
  );
  bench.note("its peer, a floor: the very same jobs by one addBulk into an empty queue of the same Redis");
  bench.note(
    `entries: ${ENTRIES_PER_TASK} for the start of each task, published by all nodes side by side in the agents' batches, until the journals' watermarks in Postgres have passed all; the tasks' statuses follow in the same transactions`,
  );
  bench.note(
    "its peer, a floor: the very same event rows by INSERTs of 1,000 rows over one connection, same indexes; no check of gaps, no tasks, no change feed",
  );
  bench.note(
    "controller, servers, simulated nodes and clients share the processors; Postgres syncs to a tmpfs, which is free",
  );
}
