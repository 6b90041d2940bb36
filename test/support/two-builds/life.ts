/**
 * The life of a fleet's things from first to last, as its users lead it through: what both builds have to be able to do together.
 * What was begun by one pair of builds (`begin`) is ended by another (`end`).
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, type Fleet } from "@berth/testkit";
import { eventsOf, nodeLeftovers, tasksOf, workloadManifest, type TaskView } from "../fleet.ts";

const LONG = ["sh", "-c", "echo up as $(hostname); exec sleep 1000"];

/** A workload that outlives the change of builds. @returns the pids of its containers by agent. */
export async function begin(fleet: Fleet, image: string, name: string): Promise<readonly number[]> {
  const manifest = workloadManifest({ name, image, replicas: 2, args: LONG });
  await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], manifest);
  return containerPids(fleet);
}

export function containerPids(fleet: Fleet): readonly number[] {
  return fleet.agents.flatMap((agent) => agent.processes().map(({ pid }) => pid)).toSorted((a, b) => a - b);
}

/** Everything that two builds say to each other, on things of its own; nothing of them is left. */
export async function leadThrough(fleet: Fleet, image: string, name: string): Promise<void> {
  const manifest = workloadManifest({ name, image, replicas: 2, args: LONG });
  await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], manifest);
  await streams(fleet, name);
  const changed = workloadManifest({ name, image, replicas: 3, args: [...LONG, "again"] });
  await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "90s"], changed);
  await eventually(`${name} as changed`, async () => {
    const tasks = await tasksOf(fleet, name);
    return tasks.length === 3 && tasks.every(({ status }) => status.phase === "Running");
  });
  await failing(fleet, image, `${name}-failing`);
  await fleet.berth(["-n", "demo", "delete", "workload", name, "--wait"]);
}

async function streams(fleet: Fleet, name: string): Promise<void> {
  const [task] = await tasksOf(fleet, name);
  assert.ok(task !== undefined);
  const exec = ["-n", "demo", "exec", "-i", task.metadata.name, "--", "cat"];
  assert.equal(await fleet.berth(exec, "through and back\n"), "through and back\n");
  await eventually(`the output of ${name}`, async () => /up as/.test(await fleet.berth(["-n", "demo", "logs", name])));
  const file = join(mkdtempSync(join(fleet.dir, "copied-")), "passwd");
  await fleet.berth(["-n", "demo", "cp", `${task.metadata.name}:/etc/passwd`, file]);
  assert.match(readFileSync(file, "utf8"), /root/);
}

/** One that fails is tried again: by the agent's news of its end, and the controller's word to begin anew. */
async function failing(fleet: Fleet, image: string, name: string): Promise<void> {
  const args = ["sh", "-c", "sleep 0.2; exit 3"];
  await fleet.berth(["apply", "-f", "-"], workloadManifest({ name, image, replicas: 1, args, restart: "onFailure" }));
  await eventually(`a second try of ${name}`, async () => {
    const [task] = await tasksOf(fleet, name);
    return task !== undefined && task.status.restarts > 0;
  });
  const ends = await eventsOf(fleet, `topic=="/tasks/exit"`);
  const codes = new Set(
    ends.filter((event) => event.name.startsWith(name)).map(({ attributes }) => attributes?.["exit_code"]),
  );
  assert.deepEqual([...codes], ["3"]);
  await fleet.berth(["-n", "demo", "delete", "workload", name, "--wait"]);
}

/** Ends what another pair began; the nodes hold nothing of it (A6), and their journals are whole (D4). */
export async function end(fleet: Fleet, name: string): Promise<void> {
  const tasks: readonly TaskView[] = await tasksOf(fleet, name);
  assert.ok(tasks.length > 0 && tasks.every(({ status }) => status.phase === "Running" && status.restarts === 0));
  await fleet.berth(["-n", "demo", "delete", "workload", name, "--wait"]);
  for (const agent of fleet.agents)
    await eventually(`nothing left on ${agent.name}`, async () => (await nodeLeftovers(agent)).length === 0);
  // Ends with 1 when anything is wrong.
  for (const agent of fleet.agents) await fleet.berth(["journal", "verify", agent.name]);
}
