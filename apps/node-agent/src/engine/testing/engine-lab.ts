/** The engine on real metadata and a real journal, over steps and a runtime that a test owns. */
import { join } from "node:path";
import { aborted, silentLogger, systemClock, withSignal, type Clock } from "@berth/base";
import { journalMigrations, openJournal } from "@berth/journal";
import { boottimeMs, detectCgroupLayout } from "@berth/linux";
import { temporaryMetadata } from "@berth/metadata/testing";
import type { EnginePaths } from "../container.ts";
import { ContainerRunner } from "../container-runner.ts";
import { Engine } from "../engine.ts";
import type { RunIntent, TaskIntent } from "../intent.ts";
import { toJournalEntry } from "../journal-entries.ts";
import { HealthKeeper } from "../health/keeper.ts";
import { LogReaders } from "../logs.ts";
import { engineMigrations } from "../migrations.ts";
import { noObserver } from "../operations.ts";
import { EngineRows } from "../rows.ts";
import { createStep } from "../steps/create.ts";
import { fenceStep, startsUnderLease } from "../steps/fence.ts";
import { startStep } from "../steps/start.ts";
import type { StartContext, Step, StepName } from "../steps/step.ts";
import { TaskLifecycle } from "../task-lifecycle.ts";
import { LeaseGate } from "../../stopper/lease-gate.ts";
import { MemoryStopper } from "../../stopper/memory.ts";
import { FakeRuntime } from "./fake-runtime.ts";

export interface EngineLab extends AsyncDisposable {
  readonly engine: Engine;
  readonly lifecycle: TaskLifecycle;
  readonly rows: EngineRows;
  readonly runtime: FakeRuntime;
  readonly stopper: MemoryStopper;
  readonly gate: LeaseGate;
  /** What steps did, in order: `+network`, `-network`. */
  readonly trace: string[];
  /** What a step does instead of succeeding. */
  readonly misbehave: Map<string, (context: StartContext | undefined) => Promise<void>>;
  steps(taskUid: string): string[];
  messages(taskUid: string): string[];
  intent(init: Partial<RunIntent> & { readonly taskUid: string }): RunIntent & TaskIntent;
  /** The agent dies and comes again, on the same rows and runtime. */
  restart(options?: { readonly bootId?: string }): Promise<void>;
}

const PLANNED: readonly StepName[] = ["image", "snapshot", "bundle", "rootfs", "network", "spec"];

export async function openEngineLab(options: { readonly clock?: Clock } = {}): Promise<EngineLab> {
  const metadata = await temporaryMetadata([...engineMigrations, ...journalMigrations]);
  const journal = await openJournal(
    { metadata, markerPath: join(metadata.folder, "journal.epoch") },
    { node: "n", identity: "i" },
  );
  const paths: EnginePaths = {
    bundles: join(metadata.folder, "bundles"),
    logs: join(metadata.folder, "logs"),
    cgroupParent: "/none",
  };
  const runtime = new FakeRuntime();
  const trace: string[] = [];
  const misbehave: EngineLab["misbehave"] = new Map();
  const rows = new EngineRows(metadata);
  const traced = (step: Step): Step => ({
    name: step.name,
    failure: step.failure,
    async run(context) {
      trace.push(`+${step.name}`);
      await misbehave.get(`+${step.name}`)?.(context);
      await step.run(context);
    },
    async undo(container) {
      trace.push(`-${step.name}`);
      await misbehave.get(`-${step.name}`)?.(undefined);
      await step.undo(container);
    },
  });
  const stopper = new MemoryStopper();
  const gate = new LeaseGate({ boottimeMs, applied: () => ({ storeEpoch: "s", revision: 1 }) });
  const deps = { runtime: () => runtime };
  // Of what has no fence, that step does nothing.
  const fence = fenceStep({ stopper, cgroups: detectCgroupLayout([]) });
  const steps = [
    ...PLANNED.map(emptyStep).map(traced),
    fence,
    ...[createStep(deps), startsUnderLease(startStep(deps), { gate })].map(traced),
  ];
  const open = (bootId: string) => {
    const common = {
      journal,
      rows,
      runtime: () => runtime,
      paths,
      clock: options.clock ?? systemClock,
      logger: silentLogger,
      observer: noObserver,
      bootId,
      logReaders: new LogReaders(),
      fence: { stopper, gate },
    };
    const runner = new ContainerRunner({ steps, observer: noObserver });
    const health = new HealthKeeper({ ...common, ask: () => Promise.resolve({ success: true }) });
    const lifecycle = new TaskLifecycle({ ...common, runner, health, maxStarts: 4, onNamespaceEmpty: () => {} });
    return { lifecycle, engine: new Engine({ ...common, lifecycle }) };
  };
  let parts = open("boot-1");
  const tasks = (taskUid: string) =>
    journal
      .read(1, 10_000)
      .map(toJournalEntry)
      .flatMap(({ body }) => (body.case === "task" && body.value.taskUid === taskUid ? [body.value] : []));
  return {
    get engine() {
      return parts.engine;
    },
    get lifecycle() {
      return parts.lifecycle;
    },
    rows,
    runtime,
    stopper,
    gate,
    trace,
    misbehave,
    steps: (taskUid) => tasks(taskUid).map(({ step, attempt }) => (attempt === 1 ? step : `${step}/${attempt}`)),
    messages: (taskUid) => tasks(taskUid).map(({ reason, message }) => `${reason}: ${message}`),
    intent: (init) => ({
      generation: 1,
      attempt: 1,
      namespace: "shop",
      name: init.taskUid,
      origin: { storeEpoch: "s", revision: 1 },
      plan: {
        image: "img",
        snapshotter: "none",
        handler: "fake",
        container: {},
        hostname: "h",
        network: { mode: "none", ports: [] },
        stopGraceMs: 1_000,
      },
      ...init,
    }),
    async restart({ bootId = "boot-1" } = {}) {
      await parts.lifecycle[Symbol.asyncDispose]();
      parts = open(bootId);
      for (const { taskUid } of rows.open()) parts.lifecycle.kick(taskUid);
    },
    async [Symbol.asyncDispose]() {
      await parts.lifecycle[Symbol.asyncDispose]();
      await journal[Symbol.asyncDispose]();
      await metadata[Symbol.asyncDispose]();
    },
  };
}

/** A step that hangs until the start is called off. */
export async function hang(context: StartContext | undefined): Promise<void> {
  const { signal } = context!;
  await withSignal(aborted(signal), signal);
}

function emptyStep(name: StepName): Step {
  return { name, failure: `${name}Failed`, run: async () => {}, undo: async () => {} };
}
