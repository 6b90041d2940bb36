/** What the engine writes into the journal, in the words of proto/berth/v1/agent.proto, and how it is read again. */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Entry, NewEntry } from "@berth/journal";
import {
  AgentChangedSchema,
  ImageChangedSchema,
  JournalEntrySchema,
  TaskChangedSchema,
  type JournalEntry,
} from "@berth/proto";
import type { Execution } from "./execution.ts";

export type TaskStep =
  | "accepted"
  | "pulling"
  | "creating"
  | "started"
  | "health"
  | "exited"
  | "failed"
  | "stopping"
  | "stopped"
  | "removed";

export interface TaskFacts {
  readonly reason?: string;
  readonly message?: string;
  readonly exitCode?: number;
  readonly oomKilled?: boolean;
  readonly exitUnknown?: boolean;
  /** Wall clock of the node. */
  readonly endedAtMs?: number;
  readonly addresses?: readonly string[];
  readonly imageDigest?: string;
  readonly health?: string;
}

/** `accepted` alone takes on work, so it alone is refused by a full journal. */
export function taskEntry(execution: Execution, step: TaskStep, facts: TaskFacts = {}): NewEntry {
  const value = create(TaskChangedSchema, {
    taskUid: execution.taskUid,
    generation: BigInt(execution.generation),
    attempt: execution.attempt,
    name: execution.name,
    step,
    reason: facts.reason ?? "",
    message: facts.message ?? "",
    ...(facts.exitCode === undefined ? {} : { exitCode: facts.exitCode }),
    ...(facts.endedAtMs === undefined ? {} : { endedAt: timestampFromMs(facts.endedAtMs) }),
    oomKilled: facts.oomKilled ?? false,
    exitUnknown: facts.exitUnknown ?? false,
    addresses: [...(facts.addresses ?? [])],
    imageDigest: facts.imageDigest ?? "",
    health: facts.health ?? "",
  });
  return entry(`task.${step}`, execution.namespace, { case: "task", value }, placeOf(step));
}

export type ImageStep = "accepted" | "present" | "failed" | "removed";

export function imageEntry(
  namespace: string,
  step: ImageStep,
  facts: Omit<MessageInitShape<typeof ImageChangedSchema>, "step" | "$typeName">,
): NewEntry {
  const value = create(ImageChangedSchema, { ...facts, step });
  return entry(`image.${step}`, namespace, { case: "image", value }, placeOf(step));
}

export type AgentStep = "started" | "stopped" | "recovered" | "warning";

export function agentEntry(step: AgentStep, reason: string, message: string): NewEntry {
  const value = create(AgentChangedSchema, { step, reason, message });
  return entry(`agent.${step}`, "", { case: "agent", value }, {});
}

/** The stored entry with its number and time, to be read. */
export function toJournalEntry(stored: Entry): JournalEntry {
  const message = fromBinary(JournalEntrySchema, stored.payload);
  message.seq = BigInt(stored.seq);
  message.time = timestampFromMs(stored.timeMs);
  return message;
}

/**
 * As it is published: its bytes are passed on unread, so that a row which was damaged on this disk stops nothing here and is
 * found out by the controller.
 */
export function toPublished(stored: Entry): JournalEntry {
  const { hash, payload, seq, timeMs } = stored;
  if (hash === undefined) return toJournalEntry(stored);
  return create(JournalEntrySchema, { seq: BigInt(seq), time: timestampFromMs(timeMs), payload, hash });
}

/** What was published, as it is to be read. */
export function fromPublished(entry: JournalEntry): JournalEntry {
  if (entry.payload.length === 0) return entry;
  return { ...fromBinary(JournalEntrySchema, entry.payload), seq: entry.seq, ...(entry.time && { time: entry.time }) };
}

/** What the journal has to know of an entry besides its bytes. */
type Place = Pick<NewEntry, "newWork" | "interim">;

/** Another step follows these, as a rule soon. */
const INTERIM: readonly (TaskStep | ImageStep)[] = ["accepted", "pulling", "creating", "stopping"];

function placeOf(step: TaskStep | ImageStep): Place {
  return { newWork: step === "accepted", interim: INTERIM.includes(step) };
}

function entry(kind: string, namespace: string, body: JournalEntry["body"], place: Place): NewEntry {
  const payload = toBinary(JournalEntrySchema, create(JournalEntrySchema, { namespace, body }));
  return { kind, payload, ...place };
}
