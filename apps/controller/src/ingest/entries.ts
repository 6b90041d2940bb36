/** Journal entries in the words of events and of transitions. Pure. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { TaskStepEntry } from "@berth/model";
import type { AgentChanged, ImageChanged, JournalEntry, TaskChanged } from "@berth/proto";
import type { NewEvent } from "@berth/store";

/** An entry with its place. */
export interface PlacedEntry {
  readonly node: string;
  readonly epoch: string;
  readonly seq: number;
  readonly entry: JournalEntry;
  /** Why it does not follow from the entry before it; absent: it does, or its epoch is not chained. */
  readonly broken?: string;
}

/** containerd's words where it has them. */
const TASK_TOPICS: Readonly<Record<string, string>> = {
  creating: "/tasks/create",
  started: "/tasks/start",
  exited: "/tasks/exit",
  removed: "/tasks/delete",
};
const IMAGE_TOPICS: Readonly<Record<string, string>> = { present: "/images/create", removed: "/images/delete" };

/** With the bytes that it was made of, and the mark of an entry that does not follow. */
export function eventOf(placed: PlacedEntry): NewEvent {
  const { entry, broken } = placed;
  const event = eventSaid(placed);
  return {
    ...event,
    ...(entry.hash.length === 0 ? {} : { entry: entry.payload, entryHash: entry.hash }),
    ...(broken === undefined ? {} : { attributes: { ...event.attributes, chain_broken: broken } }),
  };
}

/** What the entry says, and nothing else. */
export function eventSaid({ node, epoch, seq, entry }: Omit<PlacedEntry, "broken">): NewEvent {
  const common = {
    namespace: entry.namespace,
    time: entryTime(entry),
    node,
    journalEpoch: epoch,
    journalSeq: seq,
  };
  const { body } = entry;
  switch (body.case) {
    case "task":
      return { ...common, ...taskEvent(body.value) };
    case "image":
      return { ...common, ...imageEvent(body.value) };
    case "agent":
      return { ...common, ...agentEvent(body.value, node) };
    case undefined:
      // A newer agent's entry: its place is kept, so that the journal has no gap.
      return { ...common, topic: "/agent/unknown", kind: "Node", name: node };
  }
}

/** Wall clock of the node, for people; never later than what Postgres can hold. */
export function entryTime(entry: JournalEntry): Date {
  const date = entry.time === undefined ? new Date() : timestampDate(entry.time);
  return date.getTime() >= 0 && date.getTime() < MAX_TIME_MS ? date : new Date(0);
}

const MAX_TIME_MS = Date.UTC(9999, 0, 1);

export function stepOf(task: TaskChanged, time: Date): TaskStepEntry {
  return {
    generation: Number(task.generation),
    attempt: task.attempt,
    step: task.step,
    time,
    reason: plain(task.reason),
    message: plain(task.message),
    exitCode: task.exitCode,
    oomKilled: task.oomKilled,
    exitUnknown: task.exitUnknown,
    addresses: task.addresses.map(plain),
    imageDigest: plain(task.imageDigest),
    health: plain(task.health),
  };
}

/** Postgres stores no NUL in text. */
export function plain(text: string): string {
  return text.includes("\0") ? text.replaceAll("\0", "\uFFFD") : text;
}

type Subject = Omit<NewEvent, "namespace" | "time" | "node" | "journalEpoch" | "journalSeq">;

function taskEvent(task: TaskChanged): Subject {
  const failed =
    task.step === "failed" || (task.step === "exited" && task.exitCode !== 0) || task.health === "unhealthy";
  const attributes: Record<string, string> = {
    generation: String(task.generation),
    attempt: String(task.attempt),
    ...(task.exitCode === undefined ? {} : { exit_code: String(task.exitCode) }),
    ...(task.oomKilled ? { oom_killed: "true" } : {}),
    ...(task.exitUnknown ? { exit_unknown: "true" } : {}),
    ...(task.imageDigest === "" ? {} : { image_digest: task.imageDigest }),
    ...(task.health === "" ? {} : { health: task.health }),
    ...(task.addresses.length === 0 ? {} : { addresses: task.addresses.join(",") }),
  };
  return {
    topic: TASK_TOPICS[task.step] ?? `/tasks/${task.step}`,
    kind: "Task",
    name: task.name,
    uid: task.taskUid,
    severity: failed ? "Warning" : "Normal",
    reason: task.reason,
    message: task.message,
    attributes,
  };
}

function imageEvent(image: ImageChanged): Subject {
  return {
    topic: IMAGE_TOPICS[image.step] ?? `/images/${image.step}`,
    kind: "Image",
    name: image.image,
    uid: "",
    severity: image.step === "failed" ? "Warning" : "Normal",
    reason: image.reason,
    message: image.message,
    attributes: {
      ...(image.digest === "" ? {} : { image_digest: image.digest }),
      ...(image.campaignUid === "" ? {} : { campaign_uid: image.campaignUid, attempt: String(image.attempt) }),
      ...(image.sizeBytes === 0n ? {} : { size_bytes: String(image.sizeBytes) }),
    },
  };
}

function agentEvent(agent: AgentChanged, node: string): Subject {
  return {
    topic: `/agent/${agent.step}`,
    kind: "Node",
    name: node,
    severity: agent.step === "warning" ? "Warning" : "Normal",
    reason: agent.reason,
    message: agent.message,
  };
}
