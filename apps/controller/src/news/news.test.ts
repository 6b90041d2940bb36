/** Events on a real NATS: in order, of their namespace, and none left out when the broker or a controller goes. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fromJsonString } from "@bufbuild/protobuf";
import { Lifetime, noFailpoints, silentLogger, type Failpoint } from "@berth/base";
import { connectBus, controllerInboxPrefix, eventSubject, type Bus } from "@berth/bus";
import { EventSchema } from "@berth/proto";
import { insertEvents, keptPosition, openStore, type Store } from "@berth/store";
import { eventually, scratchDir, startNats, type NatsServer } from "@berth/testkit/servers";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { startNews } from "./news.ts";

const servers = new Lifetime();
let databases: TestDatabases;
let nats: NatsServer;
before(async () => {
  databases = servers.own(await startTestDatabases());
  nats = servers.own(await startNats({ dir: servers.own(scratchDir("berth-news")).dir }));
});
after(() => servers[Symbol.asyncDispose]());

class Bench implements AsyncDisposable {
  readonly lifetime = new Lifetime();
  readonly url: string;
  readonly store: Store;
  readonly heard: string[] = [];

  readonly bus: Bus;

  private constructor(url: string, store: Store) {
    this.url = url;
    this.store = this.lifetime.own(store);
    const options = { url: nats.url, name: "test", inboxPrefix: controllerInboxPrefix, logger: silentLogger };
    this.bus = this.lifetime.own(connectBus({ ...options, maxBackoffMs: 100 }));
  }

  static async open(): Promise<Bench> {
    const url = await databases.create();
    const bench = new Bench(url, await openStore({ url }));
    bench.bus.subscribe("events.shop.>", (payload, subject) => {
      const event = fromJsonString(EventSchema, Buffer.from(payload).toString());
      bench.heard.push(`${subject} ${event.name}`);
    });
    await bench.bus.connected();
    await bench.bus.connection().flush();
    return bench;
  }

  /** A controller's part. On the connection that hears, too: after a reconnection nothing is said before it listens again. */
  async controller(failpoint: Failpoint = noFailpoints): Promise<AsyncDisposable> {
    const own = this.lifetime.own(new Lifetime());
    const store = own.own(await openStore({ url: this.url }));
    own.own(startNews({ store, bus: this.bus, logger: silentLogger, failpoint }));
    return own;
  }

  /** Stores `count` events, numbered. */
  async add(from: number, count: number, namespace = "shop"): Promise<void> {
    const rows = Array.from({ length: count }, (_, n) => ({ namespace, topic: "/tasks/exit", kind: "Task" as const, name: `t-${from + n}` })); // prettier-ignore
    await this.store.transaction((tx) => insertEvents(tx, rows));
  }

  async hears(count: number): Promise<void> {
    await eventually(`${count} events`, async () => new Set(this.heard).size >= count, { timeoutMs: 30_000 });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.lifetime[Symbol.asyncDispose]();
  }
}

const named = (count: number): string[] => Array.from({ length: count }, (_, n) => `events.shop.tasks.exit t-${n + 1}`);

void test("eventSubject keeps namespaces apart, whatever a node says", () => {
  assert.equal(eventSubject("shop", "/tasks/exit"), "events.shop.tasks.exit");
  assert.equal(eventSubject("", "/nodes/journal-gap"), "events._cluster.nodes.journal-gap");
  assert.equal(eventSubject("shop.>", "/tasks/*"), "events.shop__.tasks._");
});

void test("events are published on their namespace's subject, in order, each once, though controllers are two", async () => {
  await using bench = await Bench.open();
  await keptPosition(bench.store.db, "nats", "events");
  await bench.controller();
  await bench.controller();
  for (let n = 0; n < 10; n += 1) {
    await bench.add(1 + n * 5, 5);
    await bench.add(1, 1, "other");
  }
  await bench.hears(50);
  assert.deepEqual(bench.heard, named(50));
});

void test("what is stored while the broker is away is published when it is back, and by the next controller", async () => {
  await using bench = await Bench.open();
  await keptPosition(bench.store.db, "nats", "events");
  const first = await bench.controller();
  await bench.add(1, 3);
  await bench.hears(3);
  await nats.stop();
  await bench.add(4, 3);
  await nats.start();
  await bench.hears(6);
  await first[Symbol.asyncDispose]();
  await bench.add(7, 3);
  await bench.controller();
  await bench.hears(9);
  assert.deepEqual([...new Set(bench.heard)], named(9));
});

void test("a controller that dies between publishing and keeping its place says it again, and leaves nothing out", async () => {
  await using bench = await Bench.open();
  await keptPosition(bench.store.db, "nats", "events");
  let deaths = 0;
  const dying: Failpoint = (name) => {
    if (name !== "news.after-publish" || deaths > 0) return;
    deaths += 1;
    throw new Error("died");
  };
  await bench.controller(dying);
  await bench.add(1, 4);
  await eventually("all to be said twice", async () => bench.heard.length >= 8, { timeoutMs: 30_000 });
  assert.equal(deaths, 1);
  assert.deepEqual(bench.heard, [...named(4), ...named(4)]);
});
