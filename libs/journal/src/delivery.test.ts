/**
 * The whole way of an entry, under seeded trouble: journal and publisher are the real ones; broker, controller and crashes
 * are played. However the run goes, the controller ends with exactly what was appended, in its order.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ManualClock, seededRandom, StatusError, type Random } from "@berth/base";
import { temporaryMetadata, type TemporaryMetadata } from "@berth/metadata/testing";
import {
  journalMigrations,
  openJournal,
  startPublisher,
  type Batch,
  type Entry,
  type Journal,
  type JournalPublisher,
  type JournalTransport,
} from "./index.ts";
import { until } from "./testing/until.ts";

/** A sample; the soak takes more. */
const SEEDS = 12 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const STEPS = 60;

/** Loses answers, refuses, and is wiped; keeps the order of what it takes. */
class LossyBroker implements JournalTransport {
  readonly #random: Random;
  messages: Batch[] = [];
  failShare = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  async publish(batch: Batch): Promise<void> {
    if (this.#random() < this.failShare) throw new StatusError("UNAVAILABLE", "refused");
    this.messages.push(batch);
    if (this.#random() < this.failShare) throw new StatusError("DEADLINE_EXCEEDED", "taken, but the answer was lost");
  }
}

/** Stores each (epoch, seq) once, in order; asks the agent for what a gap lacks, if it can reach it. */
class Controller {
  readonly stored = new Map<string, Entry[]>();

  receive(batch: Batch, fetch: (epoch: string, fromSeq: number) => readonly Entry[]): void {
    this.#store(batch.epoch, batch.entries);
    if (batch.entries.at(-1)!.seq > this.watermark(batch.epoch)) {
      this.#store(batch.epoch, fetch(batch.epoch, this.watermark(batch.epoch) + 1));
      this.#store(batch.epoch, batch.entries);
    }
  }

  watermark(epoch: string): number {
    return this.stored.get(epoch)?.at(-1)?.seq ?? 0;
  }

  /** Everything, in the order of (epoch, seq). */
  history(): string[] {
    const epochs = [...this.stored.keys()].toSorted();
    return epochs.flatMap((epoch) => this.stored.get(epoch)!.map(({ payload }) => Buffer.from(payload).toString()));
  }

  #store(epoch: string, entries: readonly Entry[]): void {
    const stored = this.stored.get(epoch) ?? [];
    this.stored.set(epoch, stored);
    for (const entry of entries) if (entry.seq === this.watermark(epoch) + 1) stored.push(entry);
  }
}

class World {
  readonly controller = new Controller();
  readonly appended: string[] = [];
  readonly broker: LossyBroker;
  readonly #metadata: TemporaryMetadata;
  readonly #random: Random;
  #journal!: Journal;
  #publisher!: JournalPublisher;
  readonly #clock = new ManualClock();
  #machine = 0;

  constructor(metadata: TemporaryMetadata, random: Random) {
    this.#metadata = metadata;
    this.#random = random;
    this.broker = new LossyBroker(random);
  }

  async boot(): Promise<void> {
    const clock = this.#clock;
    const markerPath = this.#markerPath;
    // Now and then the data root finds itself on another machine.
    if (this.chance(0.3)) this.#machine += 1;
    const config = { node: "n1", identity: `machine ${this.#machine}` };
    this.#journal = await openJournal({ metadata: this.#metadata, markerPath, clock }, config);
    const deps = { journal: this.#journal, transport: this.broker, clock, random: this.#random };
    this.#publisher = startPublisher(deps, { batchEntries: 4, stallMs: 20_000, maxStallMs: 40_000 });
  }

  get #markerPath(): string {
    return join(this.#metadata.folder, "journal.epoch");
  }

  async step(): Promise<void> {
    const kind = this.#random();
    if (kind < 0.3) await this.append();
    else if (kind < 0.45) this.pass(Math.floor(this.#random() * 30_000));
    else if (kind < 0.7) this.deliver();
    else if (kind < 0.85) await this.acknowledge();
    else await this.trouble();
    for (let turns = Math.floor(this.#random() * 6); turns > 0; turns -= 1) await turn();
  }

  async append(): Promise<void> {
    const batch = Array.from({ length: 1 + Math.floor(this.#random() * 6) }, (_, n) => `${this.appended.length + n}`);
    this.appended.push(...batch);
    await this.#journal.append(batch.map((text) => ({ kind: "test", payload: Buffer.from(text) })));
  }

  pass(ms: number): void {
    this.#clock.advance(ms);
  }

  deliver(): void {
    for (let n = Math.floor(this.#random() * 5); n > 0; n -= 1) this.receiveOne(this.chance(0.7));
  }

  async acknowledge(): Promise<void> {
    for (const epoch of this.controller.stored.keys()) {
      if (this.chance(0.7)) await this.#publisher.acknowledge(epoch, this.controller.watermark(epoch));
    }
  }

  async trouble(): Promise<void> {
    const kind = this.#random();
    if (kind < 0.3) this.broker.messages = [];
    else if (kind < 0.6) this.broker.failShare = this.#random();
    else if (kind < 0.8) this.broker.messages = this.broker.messages.filter(() => this.chance(0.8));
    else await this.crash();
  }

  /** The process ends, cleanly or not: a killed one has left the marker as it last was. */
  async crash(): Promise<void> {
    const marker = await readFile(this.#markerPath);
    await this.end();
    if (this.chance(0.5)) await writeFile(this.#markerPath, marker);
    await this.boot();
  }

  receiveOne(agentReachable: boolean): void {
    const batch = this.broker.messages.shift();
    if (batch === undefined) return;
    const fetch = (epoch: string, fromSeq: number): readonly Entry[] =>
      agentReachable ? this.#journal.readEpoch(epoch, fromSeq, 100) : [];
    this.controller.receive(batch, fetch);
  }

  /** No more trouble: how long until the controller has everything? */
  async heal(): Promise<void> {
    this.broker.failShare = 0;
    await until(async () => {
      this.pass(1_000);
      while (this.broker.messages.length > 0) this.receiveOne(true);
      for (const epoch of this.controller.stored.keys()) {
        await this.#publisher.acknowledge(epoch, this.controller.watermark(epoch));
      }
      return this.#publisher.backlog().unstored === 0;
    });
  }

  async end(): Promise<void> {
    await this.#publisher[Symbol.asyncDispose]();
    await this.#journal[Symbol.asyncDispose]();
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }
}

for (let seed = 1; seed <= SEEDS; seed += 1) {
  void test(`publisher delivers exactly what was appended, through drops, wipes and crashes (seed ${seed})`, async () => {
    await using metadata = await temporaryMetadata(journalMigrations);
    const world = new World(metadata, seededRandom(seed));
    await world.boot();
    for (let step = 0; step < STEPS; step += 1) await world.step();
    await world.heal();
    await world.end();
    assert.deepEqual(world.controller.history(), world.appended);
    assert.equal(metadata.get("SELECT count(*) AS n FROM journal")?.["n"], 0, "everything stored is pruned");
    assert.ok(world.appended.length > 0);
  });
}
