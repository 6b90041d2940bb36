/**
 * The JetStream stream that carries the agents' journals up, on `ev.<shard>.<node>`.
 *
 * JetStream is a pipe with slack, not a store: the agent keeps an entry until the controller's Postgres has it (D1, D4). So
 * the stream may lose its oldest messages, or all of them, and the gap is asked for again.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type Consumer,
  type JetStreamManager,
  type JsMsg,
  type StreamConfig,
} from "@nats-io/jetstream";
import { backoffMs, isTransient, StatusError, systemClock, withSignal, type Logger } from "@berth/base";
import { JournalBatchSchema, type JournalBatch, type JournalEntry } from "@berth/proto";
import type { Bus } from "./bus.ts";
import { busError } from "./errors.ts";
import { journalSubject, nodeOfSubject } from "./subjects.ts";

export const JOURNAL_STREAM = "BERTH_EV";

export interface StreamLimits {
  readonly maxAgeMs?: number;
  readonly maxBytes?: number;
  /** Servers of a cluster that hold it, 1 to 5: of three, one may be away. Default 1. */
  readonly replicas?: number;
}

/**
 * Makes the stream, or brings its limits up to date. Of a cluster whose servers are not all there, what cannot be had now is left
 * for the next time: a stream on fewer servers carries journals, too.
 */
export async function ensureStream(bus: Bus, limits: StreamLimits = {}, logger?: Logger): Promise<void> {
  try {
    const { streams } = await jetstreamManager(bus.connection(), { checkAPI: false });
    const config = streamConfig(limits);
    const before = await streams.info(JOURNAL_STREAM).catch(absent);
    if (before === undefined) return await makeStream(streams, config, logger);
    if (isAsWanted(before.config, config)) return;
    await streams.update(JOURNAL_STREAM, config).catch((error: unknown) => {
      logger?.warn({ error: String(error) }, "the journals' stream keeps its limits: they could not be changed now");
    });
  } catch (error) {
    throw busError(error, `stream ${JOURNAL_STREAM}`);
  }
}

function streamConfig({ maxAgeMs = 24 * 3_600_000, maxBytes = 512 * 1024 * 1024, replicas = 1 }: StreamLimits) {
  return {
    subjects: ["ev.>"],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.Old,
    max_age: maxAgeMs * 1e6,
    max_bytes: maxBytes,
    duplicate_window: 120_000 * 1e6,
    num_replicas: replicas,
  };
}

type Config = ReturnType<typeof streamConfig>;

async function makeStream(streams: JetStreamManager["streams"], config: Config, logger?: Logger): Promise<void> {
  try {
    await streams.add({ name: JOURNAL_STREAM, ...config });
  } catch (error) {
    // Somebody else was quicker.
    if (/already in use/.test(String(error))) return;
    if (config.num_replicas === 1) throw error;
    logger?.warn({ error: String(error), replicas: config.num_replicas }, "the journals' stream begins on one server");
    await makeStream(streams, { ...config, num_replicas: 1 });
  }
}

function isAsWanted(is: StreamConfig, wanted: Config): boolean {
  const { max_age, max_bytes, num_replicas } = wanted;
  return is.max_age === max_age && is.max_bytes === max_bytes && is.num_replicas === num_replicas;
}

function absent(error: unknown): undefined {
  if (/stream not found/.test(String(error))) return undefined;
  throw error;
}

/** NATS takes 1 MiB a message; batches beyond this are cut. */
const MAX_BATCH_BYTES = 512 * 1024;

export interface PublishOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Raised when a batch is published anew because it was not stored: the broker must not take it for a duplicate. */
  readonly pass?: number;
}

/**
 * Publishes a batch and waits until JetStream has stored it. Publishing the same entries again is harmless.
 * @throws UNAVAILABLE or DEADLINE_EXCEEDED; some of the entries may have been stored.
 */
export async function publishJournal(
  bus: Bus,
  shard: number,
  batch: JournalBatch,
  options: PublishOptions = {},
): Promise<void> {
  const { entries } = batch;
  const first = entries[0];
  const last = entries.at(-1);
  if (first === undefined || last === undefined) return;
  const payload = toBinary(JournalBatchSchema, batch);
  if (payload.length > MAX_BATCH_BYTES && entries.length > 1) {
    const middle = entries.length >> 1;
    await publishJournal(bus, shard, withEntries(batch, entries.slice(0, middle)), options);
    await publishJournal(bus, shard, withEntries(batch, entries.slice(middle)), options);
    return;
  }
  try {
    const stored = jetstream(bus.connection()).publish(journalSubject(shard, batch.node), payload, {
      msgID: `${batch.node}-${batch.epoch}-${first.seq}-${last.seq}-${options.pass ?? 0}`,
      timeout: options.timeoutMs ?? 5_000,
    });
    await withSignal(stored, options.signal);
  } catch (error) {
    throw busError(error, `journal of ${batch.node}`);
  }
}

function withEntries(batch: JournalBatch, entries: JournalEntry[]): JournalBatch {
  return { ...batch, entries };
}

/** One message of the stream. */
export interface JournalDelivery {
  /** From the subject, thus proven by the broker. */
  readonly node: string;
  readonly batch: JournalBatch;
}

export interface ConsumeOptions {
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Messages handed over at a time. Default 256. */
  readonly maxMessages?: number;
  readonly limits?: StreamLimits;
}

/**
 * Hands over what the agents of a shard publish, in the order of the stream, one call of `handler` at a time; messages are
 * acknowledged after it resolved. It comes back from a lost connection, a restarted server and a wiped store. One consumer
 * per shard: the caller holds the shard's lock, and the new owner goes on after the last acknowledged message.
 *
 * A handler's transient error (UNAVAILABLE, ABORTED…) has the same messages handed over again after a wait; any other one
 * ends the consumption. Resolves when the signal fires.
 */
export async function consumeShard(
  bus: Bus,
  shard: number,
  handler: (deliveries: readonly JournalDelivery[]) => Promise<void>,
  options: ConsumeOptions,
): Promise<void> {
  const { signal, logger } = options;
  let failures = 0;
  while (!signal.aborted) {
    try {
      await bus.connected(signal);
      const consumer = await takeOver(bus, shard, options);
      while (!signal.aborted) {
        const messages = await fetchSome(consumer, options.maxMessages ?? 256, signal);
        failures = 0;
        await handOver(messages, handler, options);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof HandlerFailed) throw error.cause;
      failures += 1;
      logger.warn({ shard, error: String(error), failures }, "journal consumer broke; taking it up again");
      const waitMs = backoffMs({ initialMs: 50, maxMs: 5_000, factor: 2 }, Math.min(failures, 20));
      await systemClock.sleep(waitMs, signal).catch(() => {});
    }
  }
}

/** Tells an error of the handler that ends the consumption from one of the broker. */
class HandlerFailed extends Error {}

/**
 * Makes the shard's consumer anew, beginning after what was acknowledged. What the owner before had taken and not
 * acknowledged comes first then, in order, at once.
 */
async function takeOver(bus: Bus, shard: number, { limits, logger }: ConsumeOptions): Promise<Consumer> {
  await ensureStream(bus, limits, logger);
  const connection = bus.connection();
  const name = `ingest-${shard}`;
  const manager = await jetstreamManager(connection, { checkAPI: false });
  const before = await manager.consumers.info(JOURNAL_STREAM, name).catch(() => undefined);
  if (before !== undefined) await manager.consumers.delete(JOURNAL_STREAM, name);
  await addConsumer(manager, name, shard, (before?.ack_floor.stream_seq ?? 0) + 1);
  return await jetstream(connection).consumers.get(JOURNAL_STREAM, name);
}

async function addConsumer(manager: JetStreamManager, name: string, shard: number, start: number): Promise<void> {
  await manager.consumers.add(JOURNAL_STREAM, {
    durable_name: name,
    filter_subject: `ev.${shard}.>`,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: start,
    ack_wait: 60_000 * 1e6,
    max_ack_pending: 10_000,
  });
}

const POLL_MS = 5_000;

/** Waits for messages. Throws when consumer or stream are gone, so that they are made again. */
async function fetchSome(consumer: Consumer, maxMessages: number, signal: AbortSignal): Promise<JsMsg[]> {
  // A pull that is cut off may still take a message; the next owner's consumer begins before it.
  const first = await withSignal(consumer.next({ expires: POLL_MS }), signal);
  if (first === null) {
    await consumer.info();
    return [];
  }
  const messages = [first];
  // The rest of what is there already, without waiting for more.
  const waiting = Math.min(maxMessages - 1, first.info.pending);
  if (waiting > 0) {
    const rest = await consumer.fetch({ max_messages: waiting, expires: 1_000 });
    for await (const message of rest) messages.push(message);
  }
  return messages;
}

async function handOver(
  messages: readonly JsMsg[],
  handler: (deliveries: readonly JournalDelivery[]) => Promise<void>,
  { signal, logger }: ConsumeOptions,
): Promise<void> {
  const deliveries = messages.flatMap((message) => readDelivery(message, logger));
  if (deliveries.length > 0) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await handler(deliveries);
        break;
      } catch (error) {
        if (signal.aborted) return;
        if (!isTransient(error)) throw new HandlerFailed("handler failed", { cause: error });
        logger.warn({ error: String(error), attempt }, "journal entries could not be stored; trying again");
        for (const message of messages) message.working();
        await systemClock.sleep(backoffMs({ initialMs: 50, maxMs: 5_000, factor: 2 }, Math.min(attempt, 20)), signal);
      }
    }
  }
  for (const message of messages) message.ack();
}

function readDelivery(message: JsMsg, logger: Logger): readonly JournalDelivery[] {
  const node = nodeOfSubject(message.subject);
  try {
    const batch = fromBinary(JournalBatchSchema, message.data);
    if (batch.node !== node) throw new StatusError("PERMISSION_DENIED", `a batch of ${batch.node}`);
    return [{ node, batch }];
  } catch (error) {
    logger.error({ node, subject: message.subject, error: String(error) }, "journal message dropped");
    return [];
  }
}
