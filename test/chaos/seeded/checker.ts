/**
 * Holds what happened against what may happen: by Postgres, by the journals, by what the containers wrote, and by the processes
 * that run on this machine.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { changedEnds, executionStarts, journalGaps, repeatedStarts } from "@berth/store";
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

/** What must never be, over everything that has happened so far: by what drills judge by, and by what only a test can see. */
export async function violations({ sql, store, ledger }: Lab, run: string): Promise<string[]> {
  const found = (await sql`select what from chaos_violations`).map((row) => String(row["what"]));
  const starts = await executionStarts(store.db);
  found.push(...repeatedStarts(starts), ...(await changedEnds(store.db)), ...(await journalGaps(store.db)));
  const journaled = new Map<string, number>();
  for (const { name, count } of starts) journaled.set(name, (journaled.get(name) ?? 0) + count);
  for (const file of readdirSync(ledger)) {
    if (file === "doubles") found.push(...readFileSync(join(ledger, file), "utf8").trim().split("\n"));
    if (!file.startsWith(`starts-${run}-`)) continue;
    const task = file.slice(`starts-${run}-`.length);
    const wrote = readFileSync(join(ledger, file), "utf8").trim().split("\n").length;
    const known = journaled.get(task) ?? 0;
    if (wrote > known) found.push(`${task} wrote ${wrote} starts, the journals have ${known}`);
  }
  return found;
}
