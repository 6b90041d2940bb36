/** Rows into messages: what resources share. */
import { create, fromJson, type DescMessage, type JsonObject, type MessageShape } from "@bufbuild/protobuf";
import { timestampFromDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { MetadataSchema, type Metadata } from "@berth/proto";

export interface ResourceRow {
  readonly uid: string;
  readonly name: string;
  readonly namespace?: string;
  readonly labels: Record<string, string>;
  readonly generation: number;
  readonly resourceVersion: number;
  readonly createdAt: Date;
  readonly deletedAt: Date | null;
}

export function metadataOf(row: ResourceRow): Metadata {
  return create(MetadataSchema, {
    name: row.name,
    namespace: row.namespace ?? "",
    uid: row.uid,
    labels: row.labels,
    generation: BigInt(row.generation),
    resourceVersion: BigInt(row.resourceVersion),
    createdAt: timestampFromDate(row.createdAt),
    ...optional("deletedAt", timestampOf(row.deletedAt)),
  });
}

export function timestampOf(date: Date | null): Timestamp | undefined {
  return date === null ? undefined : timestampFromDate(date);
}

/** Reads a message that was stored; fields of a newer version are ignored. */
export function parse<Desc extends DescMessage>(schema: Desc, json: JsonObject): MessageShape<Desc> {
  return fromJson(schema, json, { ignoreUnknownFields: true });
}

/** `{[key]: value}`, or nothing for an undefined value. */
export function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}
