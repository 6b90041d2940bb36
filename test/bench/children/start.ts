/**
 * Our side of `start`: the whole agent as `berthd` composes it, in a process of its own. Its engine is asked directly; what
 * a fleet puts before it (API, placement, a job) is measured by `dispatch`.
 */
import { noFailpoints, silentLogger, StatusError, uuidv7 } from "@berth/base";
import { loadAgentConfig } from "@berth/config";
import { startAgent, type Agent } from "@berth/node-agent/agent";
import type { Execution, RunIntent } from "@berth/node-agent/engine";
import { serveChild, type ChildKind } from "../support/child.ts";
import { inParallel } from "../support/parallel.ts";

export interface StartSetup {
  readonly configFile: string;
  readonly image: string;
  readonly handler: string;
}

export interface StartRequest {
  readonly containers: number;
  readonly parallel: number;
}

export type StartSide = ChildKind<StartSetup, StartRequest, { readonly ms: number }>;

serveChild<StartSide>(async ({ configFile, image, handler }: StartSetup) => {
  const config = await loadAgentConfig({ file: configFile, env: {} });
  const path = process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin";
  const agent = await startAgent({ logger: silentLogger, failpoint: noFailpoints, path }, config);
  return {
    async run({ containers, parallel }: StartRequest) {
      const begun = performance.now();
      await inParallel(containers, parallel, () => runOnce(agent, planOf(image, handler)));
      return { ms: performance.now() - begun };
    },
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
});

/** Create, start, wait for the end, delete; resolves when nothing of it is left. */
async function runOnce(agent: Agent, plan: RunIntent["plan"]): Promise<void> {
  const taskUid = uuidv7();
  const key = { taskUid, generation: 1, attempt: 1, namespace: "bench", name: `true-${taskUid.slice(-6)}` };
  const intent: RunIntent = { ...key, origin: { storeEpoch: "", revision: 0 }, plan };
  await agent.engine.run(intent);
  const ended = await seen(
    agent,
    taskUid,
    (execution) => execution?.state === "exited" || execution?.state === "failed",
  );
  await agent.engine.stop(intent);
  await seen(agent, taskUid, (execution) => execution === undefined);
  if (ended?.state === "exited") return;
  throw new StatusError("INTERNAL", `task ${key.name} failed; the journal of the agent says why`);
}

/** Looks at each change until the execution is as wanted. */
function seen(
  { engine, journal }: Agent,
  taskUid: string,
  isWanted: (execution: Execution | undefined) => boolean,
): Promise<Execution | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Execution | undefined>();
  const look = (): void => {
    const execution = engine.executions().find((each) => each.taskUid === taskUid);
    if (isWanted(execution)) resolve(execution);
  };
  const changes = journal.onAppend(look);
  const late = setTimeout(
    () => reject(new StatusError("DEADLINE_EXCEEDED", "a task came to no end within 30 s")),
    30_000,
  );
  look();
  return promise.finally(() => {
    clearTimeout(late);
    changes[Symbol.dispose]();
  });
}

function planOf(image: string, handler: string): RunIntent["plan"] {
  return {
    image,
    snapshotter: "overlayfs",
    handler,
    container: { command: ["/bin/true"] },
    hostname: "bench",
    network: { mode: "none", ports: [] },
    stopGraceMs: 1_000,
  };
}
