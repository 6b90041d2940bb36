/**
 * Troubles that a controller gives by order of `berth drill`, and what the drills' own reports say of them. Whoever began one goes
 * at once: the controllers judge it amid whatever else is hurt.
 */
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { fromJson } from "@bufbuild/protobuf";
import { DrillStepSchema } from "@berth/proto";
import type { AgentProcess } from "@berth/testkit";
import { eventually } from "@berth/testkit/servers";
import type { Lab } from "./lab.ts";
import { oneOf, type Trouble } from "./troubles.ts";

/** The shortest there is, and longer than the lab's lease. */
const SECONDS = 5;

export const DRILLS: Readonly<Record<string, Trouble>> = {
  "drill partition": async (lab, random) => {
    await begin(lab, oneOf(lab.fleet.agents, random), "partition", "--for", `${SECONDS}s`);
    return () => delay(SECONDS * 1_000);
  },
  "drill pause": async (lab, random) => {
    await begin(lab, oneOf(lab.fleet.agents, random), "pause", "--for", `${SECONDS}s`);
    return () => delay(SECONDS * 1_000);
  },
  "drill kill": async (lab, random) => {
    const agent = oneOf(lab.fleet.agents, random);
    const begun = await begin(lab, agent, "kill");
    return async () => {
      if (begun) await agent.ended(5_000);
      // As its service manager would: the lab promises that there is one.
      await agent.start();
    };
  },
};

/** Was it? One that is refused or not begun hurts nobody; its report says so, or there is none. */
async function begin({ fleet }: Lab, { name }: AgentProcess, ...args: readonly string[]): Promise<boolean> {
  const child = fleet.startBerth("drill", ...args, "-l", `berth.io/hostname=${name}`);
  const ended = once(child, "close");
  let printed = "";
  const begun = new Promise<true>((resolve) => {
    child.stdout.setEncoding("utf8").on("data", (more: string) => {
      printed += more;
      if (/^ {2}drill \S+$/m.test(printed)) resolve(true);
    });
  });
  const isBegun = await Promise.race([begun, ended.then(() => false)]);
  child.kill("SIGKILL");
  await ended;
  return isBegun;
}

export interface DrillOutcome {
  /** `pause Passed`. */
  readonly drill: string;
  readonly broken: readonly string[];
}

/** Of drills that began since then, as soon as all have been judged. */
export async function drillOutcomes({ sql }: Lab, since: Date): Promise<DrillOutcome[]> {
  await eventually(
    "the drill is judged",
    async () => (await sql`select from drills where ended_at is null`).length === 0,
    { timeoutMs: 60_000 },
  );
  const rows =
    await sql`select name, kind, verdict, steps -> -1 as last from drills where created_at >= ${since} order by created_at`;
  return rows.map(({ name, kind, verdict, last }) => {
    const { message, report } = fromJson(DrillStepSchema, last as never);
    const broken = (report?.invariants ?? []).filter(({ outcome }) => outcome === "Broken");
    const told = broken.map((each) => `${name}: ${each.name}: ${each.message}`);
    return { drill: `${kind} ${verdict}`, broken: verdict === "Failed" && told.length === 0 ? [`${name}: ${message}`] : told }; // prettier-ignore
  });
}
