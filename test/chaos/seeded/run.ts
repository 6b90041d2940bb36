/**
 * One seeded run on a lab: workloads are made, changed, scaled and deleted while things are hurt and healed; then all must be as
 * desired within a bound after the last healing, and nothing forbidden may have happened. The same seed gives the same run.
 */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { seededRandom, type Random } from "@berth/base";
import { storeTime } from "@berth/store";
import { unsettled, violations } from "./checker.ts";
import { drillOutcomes, DRILLS } from "./drills.ts";
import type { Lab } from "./lab.ts";
import { oneOf, TROUBLES, type Heal } from "./troubles.ts";
import { brief, many, solo, type Wanted } from "./workloads.ts";

/** After the last healing. Silence, its end, a lost queue's minute and a second try are in it. */
export const BOUND_MS = 45_000;

export interface RunReport {
  readonly seed: number;
  readonly troubles: readonly string[];
  readonly actions: readonly string[];
  /** From the last healing until all was as desired. */
  readonly convergedMs: number;
  /** Of drills: their kind and verdict. */
  readonly drills: readonly string[];
  /** What was wrong; empty when nothing was. */
  readonly wrong: readonly string[];
}

export interface RunOptions {
  /** The first trouble is one of `drills.ts`, each time; without it seeds draw as they always did. */
  readonly drills?: boolean;
}

interface Scene {
  readonly lab: Lab;
  readonly random: Random;
  readonly id: string;
  readonly actions: string[];
  many: Wanted;
  solo: Wanted;
  /** Of the one of which there must never be two. */
  readonly onNodeLoss: string;
  readonly drills: boolean;
}

export async function runSeed(lab: Lab, seed: number, { drills = false }: RunOptions = {}): Promise<RunReport> {
  const troubles: string[] = [];
  const actions: string[] = [];
  try {
    return await run(lab, seed, { troubles, actions, drills });
  } catch (error) {
    return {
      seed,
      troubles,
      actions,
      convergedMs: BOUND_MS,
      drills: [],
      wrong: [`the run broke off: ${String(error)}`, ...lastWords(lab)],
    };
  }
}

async function run(
  lab: Lab,
  seed: number,
  { troubles, actions, drills }: { readonly troubles: string[]; readonly actions: string[]; readonly drills: boolean },
): Promise<RunReport> {
  const random = seededRandom(seed);
  const since = await storeTime(lab.store.db);
  const id = `${seed}`;
  const scene: Scene = {
    lab,
    random,
    id,
    actions,
    many: { name: `many-${id}`, replicas: 1 + Math.floor(random() * 5), version: 1 },
    solo: { name: `solo-${id}`, replicas: 1, version: 1 },
    onNodeLoss: random() < 0.6 ? "stopThenReplace" : "keep",
    drills,
  };
  const batch: Wanted = { name: `brief-${id}`, replicas: 1 + Math.floor(random() * 2), version: 1 };
  await retried(() => applyAll(scene));
  await retried(() => apply(scene, brief(runOf(scene), batch), `brief ×${batch.replicas}`));
  await amid(scene, troubles, [change(scene), change(scene)]);
  const first = await settle(lab, [scene.many, scene.solo], [batch]);
  // One is under way at a time.
  if (drills) await drillOutcomes(lab, since);
  // And once more while it all goes away.
  const names = [scene.many, scene.solo, batch].map(({ name }) => name);
  await amid(scene, troubles, names.map((name) => () => remove(scene, name))); // prettier-ignore
  const second = await settle(lab, [], []);
  const outcomes = drills ? await drillOutcomes(lab, since) : [];
  const broken = outcomes.flatMap((each) => each.broken);
  const wrong = [...first.wrong, ...second.wrong, ...broken, ...(await violations(lab, id))];
  if (wrong.length > 0) wrong.push(...lastWords(lab));
  const convergedMs = Math.max(first.tookMs, second.tookMs);
  return { seed, troubles, actions, convergedMs, drills: outcomes.map(({ drill }) => drill), wrong };
}

/** One trouble or two at a time, healed together, and the actions in between, some of which the trouble makes fail. */
async function amid(scene: Scene, troubles: string[], actions: readonly (() => Promise<void>)[]): Promise<void> {
  const { lab, random, drills } = scene;
  const heals: Heal[] = [];
  const count = random() < 0.4 ? 2 : 1;
  // Drills judge by the nodes' clocks, too.
  const names = Object.keys(TROUBLES).filter((name) => !drills || name !== "clock jumps");
  for (let index = 0; index < count; index += 1) {
    await delay(random() * 800);
    const among = drills && index === 0 ? Object.keys(DRILLS) : names;
    const name = oneOf(among.filter((each) => !sameTarget(each, troubles, index)), random); // prettier-ignore
    troubles.push(name);
    heals.push(await (TROUBLES[name] ?? DRILLS[name])!(lab, random));
  }
  const failed: (() => Promise<void>)[] = [];
  for (const action of actions) {
    // A client that is not answered asks again when the trouble is over.
    await action().catch(() => failed.push(action));
    await delay(random() * 600);
  }
  await delay(random() * 3_000);
  // Together: a controller that starts is not ready before NATS is back.
  await Promise.all(heals.map((heal) => heal()));
  for (const action of failed) await retried(action);
}

/** Two troubles of one thing at a time would heal each other. */
function sameTarget(name: string, troubles: readonly string[], index: number): boolean {
  const target = (each: string): string => each.split(" ")[0]!.replace("agent", "node");
  return index > 0 && target(troubles.at(-1)!) === target(name);
}

async function retried(action: () => Promise<void>): Promise<void> {
  const until = performance.now() + 20_000;
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (performance.now() > until) throw error;
      await delay(300);
    }
  }
}

/** What the controllers complained of last, and how programs ended that did by themselves: the fleet's own directory goes with it. */
function lastWords({ fleet }: Lab): string[] {
  const controllers = fleet.controllers.flatMap(({ logFile }, index) => {
    const last = wordsOf(logFile);
    return fleet.controllers.length === 1 ? last : [`  controller ${index + 1}:`, ...last];
  });
  // Whoever was killed has been started again by now.
  const gone = fleet.agents.filter(({ running }) => !running);
  return [...controllers, ...gone.flatMap(({ name, logFile }) => [`  ${name} has ended:`, ...wordsOf(logFile)])];
}

function wordsOf(logFile: string): string[] {
  const lines = readFileSync(logFile, "utf8").trimEnd().split("\n");
  // What is no log line was written by Node itself as the process ended.
  const grave = lines.filter((line) => /"level":(40|50|60|"warn"|"error"|"fatal")/.test(line) || !line.startsWith("{"));
  return [...grave.slice(-25), lines.at(-1)!].map((line) => `    ${line.slice(0, 400)}`);
}

const runOf = ({ id, lab: { image, ledger } }: Scene): { id: string; image: string; ledger: string } => ({
  id,
  image,
  ledger,
});

async function apply(scene: Scene, manifest: string, what: string): Promise<void> {
  scene.actions.push(what);
  await scene.lab.berth(["apply", "-f", "-"], manifest);
}

async function applyAll(scene: Scene): Promise<void> {
  const manifest = `${many(runOf(scene), scene.many)}\n---\n${solo(runOf(scene), scene.solo, scene.onNodeLoss)}`;
  await apply(scene, manifest, `many ×${scene.many.replicas} v${scene.many.version}, solo v${scene.solo.version}`);
}

/** Another size, another version, or both. Drawn now, done later, and maybe once more. */
function change(scene: Scene): () => Promise<void> {
  const { random } = scene;
  const replicas = random() < 0.6 ? 1 + Math.floor(random() * 5) : undefined;
  const [newMany, newSolo] = [random() < 0.5, random() < 0.4];
  let drawn = false;
  return async () => {
    if (!drawn) {
      const { many: before, solo: single } = scene;
      scene.many = { ...before, replicas: replicas ?? before.replicas, version: before.version + Number(newMany) };
      scene.solo = { ...single, version: single.version + Number(newSolo) };
      drawn = true;
    }
    await applyAll(scene);
  };
}

async function remove(scene: Scene, name: string): Promise<void> {
  scene.actions.push(`delete ${name}`);
  await scene.lab.berth(["-n", "demo", "delete", "workload", name]).catch((error: unknown) => {
    if (!/does not exist/i.test(String(error))) throw error;
  });
}

async function settle(
  lab: Lab,
  wanted: readonly Wanted[],
  ended: readonly Wanted[],
): Promise<{ readonly tookMs: number; readonly wrong: readonly string[] }> {
  const start = performance.now();
  for (;;) {
    const wrong = await unsettled(lab, wanted, ended).catch((error: unknown) => [`Postgres: ${String(error)}`]);
    const tookMs = performance.now() - start;
    if (wrong.length === 0) return { tookMs, wrong };
    if (tookMs > BOUND_MS) return { tookMs, wrong: wrong.map((each) => `not within ${BOUND_MS / 1_000} s: ${each}`) };
    await delay(200);
  }
}
