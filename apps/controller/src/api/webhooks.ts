/** WebhookService: where a namespace's events are sent. Sending is elsewhere (`webhooks/`); a ping is sent from here. */
import { clone, create } from "@bufbuild/protobuf";
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StatusError, type FieldViolation } from "@berth/base";
import { nameProblem } from "@berth/model";
import {
  ListWebhookDeliveriesResponseSchema,
  ListWebhooksResponseSchema,
  RotateWebhookSecretResponseSchema,
  TestWebhookResponseSchema,
  WebhookSchema,
  WebhookService,
  WebhookSpecSchema,
  type RotateWebhookSecretRequest,
  type RotateWebhookSecretResponse,
  type TestWebhookResponse,
  type Webhook,
  type WebhookSpec,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  countBehind,
  deliveriesOf,
  deliveryMessage,
  getStoreMeta,
  getWebhook,
  insertEvents,
  insertWebhook,
  listWebhooks,
  lockWebhook,
  removeWebhook,
  storeTime,
  updateWebhook,
  webhookMessage,
  webhookSpec,
  type Tx,
  type WebhookRow,
} from "@berth/store";
import { pingDelivery } from "../webhooks/delivery.ts";
import { DEFAULT_TIMEOUT_MS } from "../webhooks/outbound.ts";
import { secretsOf } from "../webhooks/secrets.ts";
import { topicProblem } from "../webhooks/selection.ts";
import type { Sender } from "../webhooks/send.ts";
import { makeSecret } from "../webhooks/signature.ts";
import { applyResource, type ApplyDeps } from "./apply.ts";
import { parseFilters } from "./event-filters.ts";
import { holdForUse } from "./namespaces.ts";
import { notFound } from "./refusals.ts";
import { appliedMetadata, namespaceScope, selectorScope } from "./scope.ts";

export interface WebhookApiDeps extends ApplyDeps {
  readonly webhooks: { readonly sender: Sender; readonly secretsDirectory?: string | undefined };
}

const DEFAULT_GRACE_MS = 86_400_000;
const MOST_GRACE_MS = 30 * 86_400_000;

export function webhookService(deps: WebhookApiDeps): Implementation {
  const { store } = deps;
  return implement(WebhookService, {
    applyWebhook: ({ webhook, dryRun }) => applyWebhook(deps, webhook!, dryRun),
    getWebhook: async ({ namespace, name }) => shown(store.db, await existing(store.db, namespace, name)),
    async listWebhooks({ namespace, selector, pageSize, pageToken }) {
      const query = { pageSize, pageToken, ...namespaceScope(namespace), ...selectorScope(selector) };
      const { items, nextPageToken } = await listWebhooks(store.db, query);
      const shownItems = await Promise.all(items.map((row) => shown(store.db, row)));
      return create(ListWebhooksResponseSchema, { items: shownItems, nextPageToken });
    },
    deleteWebhook: ({ namespace, name }) => store.transaction((tx) => deleteWebhook(tx, namespace, name)),
    testWebhook: ({ namespace, name }, { signal, principal }) =>
      test(deps, namespace, name, principal?.name ?? "", signal),
    async listWebhookDeliveries({ namespace, name }) {
      const rows = await deliveriesOf(store.db, (await existing(store.db, namespace, name)).uid);
      return create(ListWebhookDeliveriesResponseSchema, { items: rows.map(deliveryMessage) });
    },
    rotateWebhookSecret: (request) => store.transaction((tx) => rotate(tx, request)),
    resumeWebhook: ({ namespace, name }) =>
      store.transaction(async (tx) => {
        const row = await locked(tx, namespace, name);
        const resumed = await updateWebhook(tx, row, {});
        await tell(tx, resumed, "/webhooks/resume", "Resumed");
        return webhookMessage(resumed);
      }),
  });
}

async function existing(tx: Tx, namespace: string, name: string): Promise<WebhookRow> {
  const row = await getWebhook(tx, namespace, name);
  if (row === undefined) throw notFound("webhook", name, namespace);
  return row;
}

async function locked(tx: Tx, namespace: string, name: string): Promise<WebhookRow> {
  const row = await lockWebhook(tx, namespace, name);
  if (row === undefined) throw notFound("webhook", name, namespace);
  return row;
}

/** How far one that gets on is behind is no news: it is about to be sent. */
async function shown(tx: Tx, row: WebhookRow): Promise<Webhook> {
  const waits = row.failures > 0 || row.goneAt !== null || webhookSpec(row).suspend;
  return webhookMessage(row, waits ? { behind: await countBehind(tx, row) } : {});
}

function applyWebhook(deps: WebhookApiDeps, webhook: Webhook, dryRun: boolean): Promise<Webhook> {
  const metadata = appliedMetadata(webhook.metadata, true);
  const { namespace, name, labels } = metadata;
  const spec = storedSpec(webhook.spec!);
  let secret = "";
  return applyResource(deps, {
    noun: "webhook",
    metadata,
    specSchema: WebhookSpecSchema,
    spec,
    dryRun,
    async lock(tx) {
      secret = "";
      await holdForUse(tx, namespace);
      return await lockWebhook(tx, namespace, name);
    },
    specOf: (row: WebhookRow) => webhookSpec(row),
    async insert(tx) {
      secret = spec.secretFile === "" ? makeSecret() : "";
      const row = await insertWebhook(tx, { namespace, name, labels }, spec, secret);
      await tell(tx, row, "/webhooks/create", "Created");
      return row;
    },
    async update(tx, row, patch) {
      // One that had its secret in a file needs one of its own now.
      secret = spec.secretFile === "" && row.secret === "" ? makeSecret() : "";
      const updated = await updateWebhook(tx, row, { ...patch, ...(secret !== "" && { secret }) });
      await tell(tx, updated, "/webhooks/update", "Updated");
      return updated;
    },
    resourceOf(row) {
      const message = webhookMessage(row);
      message.status!.secret = secret;
      return message;
    },
    preview: (given, row) =>
      create(WebhookSchema, { metadata: given, spec, ...(row && { status: webhookMessage(row).status! }) }),
  });
}

/** @throws INVALID_ARGUMENT `FIELD_INVALID` */
function storedSpec(given: WebhookSpec): WebhookSpec {
  const spec = clone(WebhookSpecSchema, given);
  const violations: FieldViolation[] = [
    ...urlProblems(spec.url),
    ...spec.topics.flatMap((topic, index) => said(`spec.topics[${index}]`, topic, topicProblem(topic))),
    ...spec.workloads.flatMap((name, index) => said(`spec.workloads[${index}]`, name, nameProblem(name))),
    ...spec.headers.flatMap((header, index) => headerProblems(header, `spec.headers[${index}]`)),
    ...boundProblem("spec.timeout", spec.timeout && durationMs(spec.timeout), 100, 60_000, "100ms to 60s"),
    ...boundProblem("spec.maxAge", spec.maxAge && durationMs(spec.maxAge), 60_000, 30 * 86_400_000, "1 minute to 30 days"),
  ]; // prettier-ignore
  if (violations.length > 0) throw StatusError.invalid(violations);
  parseFilters(spec.filters, "spec.filters");
  return spec;
}

const said = (field: string, value: string, problem: string | undefined): FieldViolation[] =>
  problem === undefined ? [] : [{ field, description: `${JSON.stringify(value)} ${problem}` }];

function urlProblems(text: string): FieldViolation[] {
  const field = "spec.url";
  const url = URL.parse(text);
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    return [{ field, description: "is no URL; write https://host[:port]/path" }];
  }
  if (url.username !== "" || url.password !== "") {
    return [{ field, description: "has a user or password, which everybody would read; check the signature instead" }];
  }
  return url.hash === "" ? [] : [{ field, description: "has a fragment (#…), which is never sent; leave it out" }];
}

/** Everybody who may read the webhook would read them. */
const CREDENTIALS = /^(authorization|proxy-authorization|cookie)$/i;
/** Those that the controller writes itself, and what belongs to the connection. */
const OWN_HEADERS = /^(webhook-.*|content-.*|transfer-encoding|connection|host|user-agent|expect|upgrade|te|trailer)$/i;

function headerProblems({ name, value }: { readonly name: string; readonly value: string }, field: string) {
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) {
    return [{ field: `${field}.name`, description: "is no name of a header" }];
  }
  if (OWN_HEADERS.test(name)) return [{ field: `${field}.name`, description: `${name} is written by Berth; leave it out` }]; // prettier-ignore
  if (CREDENTIALS.test(name)) {
    return [{ field: `${field}.name`, description: `${name} carries credentials, which everybody who may read this would have; check the signature instead` }];
  } // prettier-ignore
  if (/[^\t\x20-\x7e]/.test(value)) return [{ field: `${field}.value`, description: "has characters that no header can hold" }]; // prettier-ignore
  return [];
}

function boundProblem(field: string, ms: number | undefined, leastMs: number, mostMs: number, range: string) {
  if (ms === undefined || (ms >= leastMs && ms <= mostMs)) return [];
  return [{ field, description: `is out of bounds; use ${range}` }];
}

async function deleteWebhook(tx: Tx, namespace: string, name: string): Promise<Webhook> {
  const row = await locked(tx, namespace, name);
  await removeWebhook(tx, row);
  await tell(tx, row, "/webhooks/delete", "Deleted");
  return webhookMessage({ ...row, deletedAt: new Date() });
}

async function rotate(tx: Tx, request: RotateWebhookSecretRequest): Promise<RotateWebhookSecretResponse> {
  const { namespace, name, grace } = request;
  const row = await locked(tx, namespace, name);
  const { secretFile } = webhookSpec(row);
  if (secretFile !== "") {
    const message = `webhook "${name}" signs with the file ${namespace}/${secretFile}: put the new secret on a line above the old one`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "WEBHOOK_SECRET_IN_FILE" });
  }
  const graceMs = grace === undefined ? DEFAULT_GRACE_MS : durationMs(grace);
  const violations = boundProblem("grace", graceMs, 0, MOST_GRACE_MS, "0s to 30 days");
  if (violations.length > 0) throw StatusError.invalid(violations);
  const secret = makeSecret();
  const previousSecretUntil = new Date((await storeTime(tx)).getTime() + graceMs);
  await updateWebhook(tx, row, {
    secret,
    previousSecret: graceMs === 0 ? "" : row.secret,
    previousSecretUntil: graceMs === 0 ? null : previousSecretUntil,
    // Nothing else of it changes.
    goneAt: row.goneAt,
    nextAttemptAt: row.nextAttemptAt,
  });
  await tell(tx, row, "/webhooks/rotate-secret", "SecretRotated");
  return create(RotateWebhookSecretResponseSchema, {
    secret,
    ...(graceMs === 0 ? {} : { previousUntil: timestampFromDate(previousSecretUntil) }),
  });
}

async function test(
  { store, webhooks: { sender, secretsDirectory } }: WebhookApiDeps,
  namespace: string,
  name: string,
  by: string,
  signal: AbortSignal,
): Promise<TestWebhookResponse> {
  const row = await existing(store.db, namespace, name);
  const { storeEpoch } = await getStoreMeta(store.db);
  const { url, headers, timeout, batch } = webhookSpec(row);
  const at = await storeTime(store.db);
  const { id, message } = pingDelivery({ row, storeEpoch, batch: Math.max(1, batch) }, by, at);
  const secrets = await secretsOf(row, secretsDirectory, at);
  const timeoutMs = timeout === undefined ? DEFAULT_TIMEOUT_MS : durationMs(timeout);
  const result = await sender.send({ url, headers, timeoutMs, secrets, id, message }, signal);
  const { outcome, code, tookMs, body } = result;
  const delivery = { deliveryId: id, attempt: 1, at, tookMs, events: 0, code, outcome, message: result.message };
  return create(TestWebhookResponseSchema, { delivery: deliveryMessage(delivery), body });
}

async function tell(tx: Tx, { namespace, name, uid }: WebhookRow, topic: string, reason: string): Promise<void> {
  await insertEvents(tx, [{ namespace, topic, kind: "Webhook", name, uid, reason, message: "" }]);
}
