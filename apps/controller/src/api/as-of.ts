/** Answers about the past: lists and single objects as they were known at a time (`history.ts` of @berth/store). */
import { fromJson, type DescMessage, type JsonObject, type MessageShape } from "@bufbuild/protobuf";
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import type { Requirement } from "@berth/model";
import { pastScope, objectsAt, type PageRequest, type ResourceKind, type Store } from "@berth/store";
import { notFound, type Noun } from "./refusals.ts";

export interface PastList<Desc extends DescMessage> extends PageRequest {
  readonly kind: ResourceKind;
  readonly schema: Desc;
  readonly asOf: Timestamp;
  readonly namespace?: string;
  readonly selector?: readonly Requirement[];
  /** Of tasks. */
  readonly workload?: string;
  readonly node?: string;
}

export interface PastPage<T> {
  readonly items: T[];
  readonly nextPageToken: string;
  /** A watch begins with what is, never with what was. */
  readonly cursor: "";
}

/** @throws OUT_OF_RANGE `HISTORY_EXPIRED`, INVALID_ARGUMENT */
export async function listAsOf<Desc extends DescMessage>(
  store: Store,
  { schema, asOf, selector, workload, node, ...query }: PastList<Desc>,
): Promise<PastPage<MessageShape<Desc>>> {
  const where = pastScope({ selector, workload, node });
  const page = await store.snapshot((tx) => objectsAt(tx, { ...query, at: timestampDate(asOf), where }));
  return { items: page.items.map(({ object }) => read(schema, object)), nextPageToken: page.nextPageToken, cursor: "" };
}

/** @throws NOT_FOUND when there was none then */
export async function getAsOf<Desc extends DescMessage>(
  store: Store,
  { kind, schema, asOf, namespace, name }: { readonly kind: ResourceKind; readonly schema: Desc; readonly asOf: Timestamp; readonly namespace: string; readonly name: string }, // prettier-ignore
): Promise<MessageShape<Desc>> {
  const at = timestampDate(asOf);
  const { items } = await store.snapshot((tx) => objectsAt(tx, { kind, at, namespace, name }));
  const [found] = items;
  if (found !== undefined) return read(schema, found.object);
  const noun = kind === "CronJob" ? "cron job" : (kind.toLowerCase() as Noun);
  const where = namespace === "" ? "" : ` in namespace "${namespace}"`;
  const { reason, details } = notFound(noun, name, namespace === "" ? undefined : namespace);
  throw new StatusError("NOT_FOUND", `${noun} "${name}" did not exist${where} at ${at.toISOString()}`, {
    reason,
    details,
  });
}

function read<Desc extends DescMessage>(schema: Desc, object: JsonObject): MessageShape<Desc> {
  return fromJson(schema, object, { ignoreUnknownFields: true });
}
