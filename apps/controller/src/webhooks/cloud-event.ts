/** Events as CloudEvents 1.0 in JSON, alone or in a batch; and the two messages that are about the webhook itself. */
import { eventJson, type EventRow, type Unwritten } from "@berth/store";

export interface CloudEvent {
  readonly specversion: "1.0";
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly time: string;
  readonly subject: string;
  readonly datacontenttype: "application/json";
  readonly data: Unwritten;
}

export interface Message {
  readonly body: string;
  readonly contentType: string;
}

/** Ids are unique in a store's history: a restored one begins another, and may use numbers again. */
const sourceOf = (storeEpoch: string, namespace: string): string => `/berth/${storeEpoch}/namespaces/${namespace}`;

/** `/tasks/exit` is `io.berth.tasks.exit`. */
export function cloudEvent(storeEpoch: string, event: EventRow): CloudEvent {
  const data = eventJson(event);
  return {
    specversion: "1.0",
    id: data.id,
    source: sourceOf(storeEpoch, event.namespace),
    type: `io.berth${event.topic.replaceAll("/", ".")}`,
    time: data.time,
    subject: `${event.kind.toLowerCase()}/${event.name}`,
    datacontenttype: "application/json",
    data,
  };
}

export interface About {
  readonly storeEpoch: string;
  readonly namespace: string;
  readonly webhook: string;
  readonly id: string;
  readonly at: Date;
}

/** `io.berth.webhook.ping`, which somebody asked for, or `io.berth.webhook.gap`: events went missing. */
export function ownCloudEvent(about: About, kind: "ping" | "gap", data: Unwritten): CloudEvent {
  return {
    specversion: "1.0",
    id: about.id,
    source: sourceOf(about.storeEpoch, about.namespace),
    type: `io.berth.webhook.${kind}`,
    time: about.at.toISOString(),
    subject: `webhook/${about.webhook}`,
    datacontenttype: "application/json",
    data,
  };
}

/** @param batched an array, also of one: what a receiver gets has one form */
export function messageOf(events: readonly CloudEvent[], batched: boolean): Message {
  return batched
    ? { body: JSON.stringify(events), contentType: "application/cloudevents-batch+json; charset=utf-8" }
    : { body: JSON.stringify(events[0]), contentType: "application/cloudevents+json; charset=utf-8" };
}
