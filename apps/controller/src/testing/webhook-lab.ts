/** Webhooks on a real Postgres with receivers on loopback: a namespace `shop`, its events, and any number of controllers. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Lifetime, noFailpoints, silentLogger, type Failpoint } from "@berth/base";
import { NamespaceSpecSchema, WebhookSpecSchema, type WebhookSpec } from "@berth/proto";
import {
  countWebhooksByPhase,
  deliveriesOf,
  getWebhook,
  insertEvents,
  insertNamespace,
  insertWebhook,
  lockWebhook,
  openStore,
  updateWebhook,
  type NewEvent,
  type Store,
  type WebhookDeliveryRow,
  type WebhookRow,
} from "@berth/store";
import { Metrics } from "@berth/telemetry";
import { makeControllerMetrics } from "../metrics.ts";
import { makeAddressGuard } from "../webhooks/address-guard.ts";
import { makeSender } from "../webhooks/send.ts";
import { makeSecret } from "../webhooks/signature.ts";
import { startWebhooks } from "../webhooks/webhooks.ts";
import { WebhookReceiver } from "./webhook-receiver.ts";

export type WebhookSpecInit = Omit<Exclude<MessageInitShape<typeof WebhookSpecSchema>, WebhookSpec>, "$typeName">;

export class WebhookLab implements AsyncDisposable {
  readonly url: string;
  readonly store: Store;
  readonly secret = makeSecret();
  readonly #lifetime = new Lifetime();
  readonly #metrics = new Metrics({ processMetrics: false });
  readonly #instruments = makeControllerMetrics(this.#metrics, {
    outboxDepth: async () => 0,
    tasksByPhase: async () => [],
    nodesByPhase: async () => [],
    webhooksByPhase: () => countWebhooksByPhase(this.store.db),
  });
  #events = 0;

  private constructor(url: string, store: Store) {
    this.url = url;
    this.store = this.#lifetime.own(store);
  }

  static async open(url: string): Promise<WebhookLab> {
    const lab = new WebhookLab(url, await openStore({ url }));
    const spec = create(NamespaceSpecSchema);
    await lab.store.transaction((tx) => insertNamespace(tx, { name: "shop", labels: {}, spec }));
    return lab;
  }

  /** A receiver, and the webhook of that name which sends to it. */
  async webhook(name: string, spec: WebhookSpecInit = {}): Promise<WebhookReceiver> {
    const receiver = this.#lifetime.own(await new WebhookReceiver().listen());
    const message = create(WebhookSpecSchema, { url: receiver.url, ...spec });
    await this.store.transaction((tx) => insertWebhook(tx, { namespace: "shop", name, labels: {} }, message, this.secret)); // prettier-ignore
    return receiver;
  }

  /** A controller's part, on connections of its own; it tries again soon. */
  async controller(
    failpoint: Failpoint = noFailpoints,
    { keepMs = 50, maxMs = 200 }: { readonly keepMs?: number; readonly maxMs?: number } = {},
  ): Promise<AsyncDisposable> {
    const own = this.#lifetime.own(new Lifetime());
    const store = own.own(await openStore({ url: this.url, migrate: false }));
    const sender = own.own(
      makeSender({ guard: makeAddressGuard({ allowPrivate: true, allowCidrs: [] }), version: "1" }),
    );
    const backoff = { initialMs: 20, maxMs, factor: 2 };
    own.own(
      await startWebhooks(
        { store, logger: silentLogger, failpoint, sender, metrics: this.#instruments.webhooks },
        { backoff, keepMs, partitions: 2 },
      ),
    );
    return own;
  }

  /** Stores so many events, numbered on: `task/t-1`, `task/t-2`… Gives the subject of the last. */
  async add(count: number, event: Partial<NewEvent> = {}): Promise<string> {
    const rows = Array.from({ length: count }, (): NewEvent => {
      this.#events += 1;
      return { namespace: "shop", topic: "/tasks/exit", kind: "Task", name: `t-${this.#events}`, ...event };
    });
    await this.store.transaction((tx) => insertEvents(tx, rows));
    return `task/t-${this.#events}`;
  }

  /** Of all of the lab's controllers, as `/metrics` has it: one value, 0 where there is none yet. */
  async metric(name: string): Promise<number> {
    const line = (await this.#metrics.registry.metrics()).split("\n").find((each) => each.startsWith(`${name} `));
    return Number(line?.slice(name.length) ?? 0);
  }

  async row(name: string): Promise<WebhookRow> {
    return (await getWebhook(this.store.db, "shop", name))!;
  }

  async change(name: string, patch: Parameters<typeof updateWebhook>[2]): Promise<void> {
    await this.store.transaction(async (tx) => {
      await updateWebhook(tx, (await lockWebhook(tx, "shop", name))!, patch);
    });
  }

  async deliveries(name: string): Promise<WebhookDeliveryRow[]> {
    return deliveriesOf(this.store.db, (await this.row(name)).uid);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifetime[Symbol.asyncDispose]();
  }
}

/** `task/t-1` to `task/t-<count>`. */
export const subjects = (count: number, from = 1): string[] =>
  Array.from({ length: count }, (_, n) => `task/t-${from + n}`);
