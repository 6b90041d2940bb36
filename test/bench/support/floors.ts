/** The bare work beneath a control plane: what its servers alone need to take the same rows and jobs from one client. */
import { decodeJob, encodeJob, queueName, type JobToAdd } from "@berth/jobs";
import type { ControlPlane } from "./control-plane.ts";
import { timedMs } from "./report.ts";

const ROWS_PER_INSERT = 1_000;

/** The jobs that wait in the nodes' queues. */
export async function readJobs({ redis, nodes }: ControlPlane): Promise<JobToAdd[]> {
  const jobs: JobToAdd[] = [];
  for (const { name: node } of nodes) {
    const prefix = `bull:${queueName(node)}`;
    const ids = await redis.lrange(`${prefix}:wait`, 0, -1);
    const rows = await Promise.all(ids.map((id) => redis.hmget(`${prefix}:${id}`, "name", "data")));
    for (const [index, [name, data]] of rows.entries()) {
      const decoded = decodeJob(name ?? "", JSON.parse(data ?? "null"));
      jobs.push({ node, id: ids[index]!, name: decoded.name, data: encodeJob(decoded.job) });
    }
  }
  return jobs;
}

/** The same jobs, in one addBulk, into an empty Redis. */
export async function addBulkMs({ redis, queues }: ControlPlane, jobs: readonly JobToAdd[]): Promise<number> {
  await redis.flushall();
  return await timedMs(() => queues.addBulk(jobs));
}

const COLUMNS = [
  "namespace",
  "time",
  "topic",
  "kind",
  "name",
  "uid",
  "node",
  "severity",
  "reason",
  "message",
  "attributes",
  "journal_epoch",
  "journal_seq",
];

/** The journals' event rows once more, into a table with the same indexes: multi-row INSERTs, nothing else. */
export async function insertEventsMs({ sql }: ControlPlane, count: number): Promise<number> {
  await sql`create table floor_events (like events including all)`;
  const rows = await sql`
    select ${sql(COLUMNS)} from events where journal_seq is not null order by id desc limit ${count}`;
  if (rows.length !== count) throw new Error(`${rows.length} event rows are stored instead of ${count}`);
  return await timedMs(async () => {
    for (let from = 0; from < count; from += ROWS_PER_INSERT) {
      await sql`insert into floor_events ${sql(rows.slice(from, from + ROWS_PER_INSERT), COLUMNS)}`;
    }
  });
}
