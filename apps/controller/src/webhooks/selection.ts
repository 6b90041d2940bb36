/**
 * Which of a namespace's events a webhook wants: topics, then filters, then what they are about. Never those about itself: the
 * receiver that is told of its own failures has just been reached.
 */
import { parseSelector, selectorMatches, type Filter } from "@berth/model";
import type { WebhookSpec } from "@berth/proto";
import { eventMessage, objectFacts, type FeedEvent, type ObjectFacts, type Tx, type WebhookRow } from "@berth/store";
import { matches, parseFilters } from "../api/event-filters.ts";

export interface Selection {
  /** In their order. */
  of(tx: Tx, events: readonly FeedEvent[]): Promise<readonly FeedEvent[]>;
}

export function makeSelection({ namespace, uid }: WebhookRow, spec: WebhookSpec): Selection {
  const topics = spec.topics.map(topicPattern);
  const filters: Filter[] = parseFilters(spec.filters, "spec.filters");
  const requirements = spec.selector === "" ? [] : parseSelector(spec.selector);
  const workloads = new Set(spec.workloads);
  const wanted = ({ event }: FeedEvent): boolean =>
    event.namespace === namespace &&
    event.uid !== uid &&
    (topics.length === 0 || topics.some((pattern) => pattern.test(event.topic))) &&
    (filters.length === 0 || matches(filters, eventMessage(event)));
  const about = (facts: ObjectFacts): boolean =>
    (workloads.size === 0 || workloads.has(facts.workload)) &&
    (requirements.length === 0 || selectorMatches(requirements, facts.labels));
  return {
    async of(tx, events) {
      const chosen = events.filter(wanted);
      if (chosen.length === 0 || (workloads.size === 0 && requirements.length === 0)) return chosen;
      const known = await objectFacts(tx, namespace, chosen.map(({ event: { kind, name, uid } }) => ({ kind, name, uid }))); // prettier-ignore
      return chosen.filter(({ event }) => {
        const facts = known.get(event.uid);
        return facts !== undefined && about(facts);
      });
    },
  };
}

/** How a topic's pattern is wrong, as the end of a sentence. */
export function topicProblem(glob: string): string | undefined {
  if (/^(\/([a-z0-9-]+|\*\*?))+$/.test(glob)) return undefined;
  return "is no topic: write /tasks/exit, /tasks/* for one word, or /nodes/** for any";
}

/** `*` is one word, or a part of one; `**` is any. */
export function topicPattern(glob: string): RegExp {
  const parts = glob.split("/").slice(1);
  return new RegExp(`^${parts.map((part) => (part === "**" ? "/.+" : `/${part.replaceAll("*", "[^/]+")}`)).join("")}$`);
}
