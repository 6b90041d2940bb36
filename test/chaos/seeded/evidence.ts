/** What a fleet leaves behind when a run went wrong, before its directory goes: every program's log, and what Postgres held. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "./lab.ts";

const TABLES = ["nodes", "tasks", "workloads", "events", "changes", "chaos_violations"];
const BIGINT_AS_TEXT = (_: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);

export async function keepEvidence({ fleet, sql }: Lab, directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  for (const [index, controller] of fleet.controllers.entries())
    copyFileSync(controller.logFile, join(directory, `controller-${index + 1}.log`));
  for (const agent of fleet.agents) copyFileSync(agent.logFile, join(directory, `${agent.name}.log`));
  for (const server of ["postgres", "redis", "nats"] as const)
    copyFileSync(fleet[server].logFile, join(directory, `${server}.log`));
  for (const table of TABLES) {
    // Postgres may be what went wrong.
    const rows = await sql`select to_jsonb(t) as row from ${sql(table)} t`.catch((error: unknown) => [
      { row: `not read: ${String(error)}` },
    ]);
    writeFileSync(
      join(directory, `${table}.jsonl`),
      rows.map(({ row }) => `${JSON.stringify(row, BIGINT_AS_TEXT)}\n`).join(""),
    );
  }
}
