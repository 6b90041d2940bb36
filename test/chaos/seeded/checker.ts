/**
 * Holds what happened against what may happen: by Postgres, by the journals, by what the containers wrote, and by the processes
 * that run on this machine.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Sql } from "postgres";
import { SLEEP_BASE, type Wanted } from "./workloads.ts";
import type { Lab } from "./lab.ts";

/** What is not yet as desired, for people; empty when all is. */
export async function unsettled(
  { sql, fleet }: Lab,
  wanted: readonly Wanted[],
  ended: readonly Wanted[],
): Promise<string[]> {
  const wrong: string[] = [];
  for (const agent of fleet.agents) {
    const [row] = await sql`select phase from nodes where name = ${agent.name}`;
    if (row?.["phase"] !== "Ready") wrong.push(`${agent.name} is ${row?.["phase"]}`);
  }
  const rows = await sql`
    select t.workload, t.name, t.phase, t.certainty, t.desired, t.exit_code, t.workload_generation = coalesce(r.generation, w.generation) as newest,
      w.deleted_at is not null as deleted
    from tasks t left join workloads w on w.uid = t.workload_uid
      -- A change that starts nothing anew, such as a scale, makes a generation but no revision.
      left join workload_revisions r on r.workload_uid = w.uid and r.revision = w.revision
    where t.namespace = 'demo'`;
  const known = new Set([...wanted, ...ended].map(({ name }) => name));
  for (const row of rows)
    if (!known.has(String(row["workload"])))
      wrong.push(
        `${row["name"]} is still there, ${row["desired"]} ${row["phase"]}, its workload ${row["deleted"] === true ? "deleted" : "wanted"}`,
      );
  for (const { name, replicas } of wanted) {
    const good = rows.filter(
      (row) =>
        row["workload"] === name &&
        row["desired"] === "Run" &&
        row["phase"] === "Running" &&
        row["certainty"] === "observed" &&
        row["newest"] === true,
    );
    const all = rows.filter((row) => row["workload"] === name);
    if (good.length !== replicas || all.length !== replicas)
      wrong.push(
        `${name}: ${good.length} of ${replicas} run, ${all.length} there: ${all.map((row) => `${row["desired"]}/${row["phase"]}/${row["certainty"]}`).join(" ")}`,
      );
  }
  for (const { name, replicas } of ended) {
    const good = rows.filter((row) => row["workload"] === name && row["phase"] === "Failed" && row["exit_code"] === 7);
    if (good.length !== replicas) wrong.push(`${name}: ${good.length} of ${replicas} ended with 7`);
  }
  const counts = sleepers();
  for (const { sleep, count } of expectedSleepers(wanted)) {
    const have = counts.get(sleep) ?? 0;
    if (have !== count) wrong.push(`${have} processes run of sleep ${sleep}, ${count} are wanted`);
    counts.delete(sleep);
  }
  for (const [sleep, count] of counts) wrong.push(`${count} processes of sleep ${sleep} run, and nobody wants them`);
  return wrong;
}

function expectedSleepers(wanted: readonly Wanted[]): { sleep: number; count: number }[] {
  const sum = new Map<number, number>();
  for (const { name, replicas, version } of wanted) {
    const sleep = SLEEP_BASE + version + (name.startsWith("solo") ? 500 : 0);
    sum.set(sleep, (sum.get(sleep) ?? 0) + replicas);
  }
  return [...sum].map(([sleep, count]) => ({ sleep, count }));
}

/** The containers' own processes, whoever started them: this suite runs alone on its machine. */
function sleepers(): Map<number, number> {
  const counts = new Map<number, number>();
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    let words: string[];
    try {
      words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    } catch {
      continue; // gone meanwhile
    }
    const [program, seconds] = words;
    if (program !== "sleep" || !(Number(seconds) >= SLEEP_BASE && Number(seconds) < SLEEP_BASE + 1_000)) continue;
    counts.set(Number(seconds), (counts.get(Number(seconds)) ?? 0) + 1);
  }
  return counts;
}

/** What must never be, over everything that has happened so far. */
export async function violations({ sql, ledger }: Lab, run: string): Promise<string[]> {
  const found = (await sql`select what from chaos_violations`).map((row) => String(row["what"]));
  const starts = await startsOf(sql);
  for (const [execution, count] of starts.byExecution)
    if (count > 1) found.push(`${execution} started ${count} times, by the journals`);
  for (const file of readdirSync(ledger)) {
    if (file === "doubles") found.push(...readFileSync(join(ledger, file), "utf8").trim().split("\n"));
    if (!file.startsWith(`starts-${run}-`)) continue;
    const task = file.slice(`starts-${run}-`.length);
    const wrote = readFileSync(join(ledger, file), "utf8").trim().split("\n").length;
    const journaled = starts.byTask.get(task) ?? 0;
    if (wrote > journaled) found.push(`${task} wrote ${wrote} starts, the journals have ${journaled}`);
  }
  return [...found, ...(await gaps(sql))];
}

async function startsOf(sql: Sql): Promise<{ byExecution: Map<string, number>; byTask: Map<string, number> }> {
  const rows = await sql`
    select name, uid::text as uid, attributes ->> 'generation' as generation, attributes ->> 'attempt' as attempt, count(*)::int as count
    from events where topic = '/tasks/start' group by 1, 2, 3, 4`;
  const byExecution = new Map<string, number>();
  const byTask = new Map<string, number>();
  for (const { name, uid, generation, attempt, count } of rows) {
    byExecution.set(`${name} ${uid} ${generation}.${attempt}`, Number(count));
    byTask.set(String(name), (byTask.get(String(name)) ?? 0) + Number(count));
  }
  return { byExecution, byTask };
}

/** D4: of every journal, each entry up to the newest stored one is there, once. */
async function gaps(sql: Sql): Promise<string[]> {
  const rows = await sql`
    select node, journal_epoch as epoch, count(*)::int as count, count(distinct journal_seq)::int as different, max(journal_seq)::int as newest
    from events where journal_epoch is not null and journal_epoch::text <> '' group by 1, 2`;
  return rows
    .filter(({ count, different, newest }) => count !== different || different !== newest)
    .map(
      ({ node, count, different, newest }) =>
        `journal of ${node}: ${count} entries, ${different} different, up to ${newest}`,
    );
}
