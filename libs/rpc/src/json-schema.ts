/**
 * JSON Schema (2020-12) from descriptors: of messages as protobuf's JSON mapping writes them, and of manifests.
 *
 * What a user may write is what the schema allows: unknown properties are refused; of manifests, fields that only the
 * controller sets are left out. Descriptions are the proto files' comments.
 */
import { ScalarType, type DescField, type DescMessage } from "@bufbuild/protobuf";
import {
  CampaignSchema,
  CronJobSchema,
  NamespaceSchema,
  NodeSchema,
  RegistryMirrorSchema,
  WebhookSchema,
  WorkloadSchema,
  type FieldRules,
} from "@berth/proto";
import { COMMENTS } from "./gen/comments.ts";
import { rulesOf } from "./rules.ts";

/** A JSON Schema, or a part of one. */
export interface JsonSchema {
  [keyword: string]: unknown;
}

export interface MessageSchemaOptions {
  /** Where the schemas of other messages stand: `#/$defs/`. */
  readonly refPrefix: string;
  /** Leave out what the controller sets. */
  readonly forInput: boolean;
}

/** What a manifest can hold. */
export const MANIFEST_KINDS: readonly DescMessage[] = [
  NamespaceSchema,
  NodeSchema,
  RegistryMirrorSchema,
  WorkloadSchema,
  CampaignSchema,
  CronJobSchema,
  WebhookSchema,
];

export function commentOf(name: string): string | undefined {
  return COMMENTS[name];
}

/** The schema of manifests, for editors: `proto/schema/berth.schema.json`. */
export function manifestSchema(): JsonSchema {
  const options: MessageSchemaOptions = { refPrefix: "#/$defs/", forInput: true };
  const $defs: Record<string, JsonSchema> = {};
  for (const kind of MANIFEST_KINDS) {
    $defs[kind.name] = manifestOf(kind, options);
    for (const field of kind.fields) {
      if (field.message !== undefined && !isOutput(field)) collectSchemas(field.message, options, $defs);
    }
  }
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Berth manifest",
    type: "object",
    required: ["apiVersion", "kind", "metadata"],
    properties: { apiVersion: { const: "berth/v1" }, kind: { enum: MANIFEST_KINDS.map(({ name }) => name) } },
    oneOf: MANIFEST_KINDS.map(({ name }) => ({ $ref: `#/$defs/${name}` })),
    $defs,
  };
}

function manifestOf(kind: DescMessage, options: MessageSchemaOptions): JsonSchema {
  const schema = messageSchema(kind, options);
  return {
    ...schema,
    required: ["apiVersion", "kind", "metadata", ...((schema["required"] as string[] | undefined) ?? [])],
    properties: {
      apiVersion: { const: "berth/v1" },
      kind: { const: kind.name },
      ...(schema["properties"] as JsonSchema),
    },
  };
}

/** Adds the schema of a message and of all that it refers to. */
export function collectSchemas(
  desc: DescMessage,
  options: MessageSchemaOptions,
  into: Record<string, JsonSchema>,
): void {
  if (WELL_KNOWN[desc.typeName] !== undefined || into[desc.name] !== undefined) return;
  into[desc.name] = messageSchema(desc, options);
  for (const field of desc.fields) {
    if (field.message !== undefined && !(options.forInput && isOutput(field))) {
      collectSchemas(field.message, options, into);
    }
  }
}

/** The schema of one message; other messages are referred to. */
export function messageSchema(desc: DescMessage, options: MessageSchemaOptions): JsonSchema {
  const fields = desc.fields.filter((field) => !(options.forInput && isOutput(field)));
  const required = fields.filter((field) => rulesOf(field)?.required === true).map((field) => field.jsonName);
  return {
    ...described(desc.typeName),
    type: "object",
    additionalProperties: false,
    ...(required.length === 0 ? {} : { required }),
    properties: Object.fromEntries(fields.map((field) => [field.jsonName, fieldSchema(field, options)])),
  };
}

export function fieldSchema(field: DescField, options: MessageSchemaOptions): JsonSchema {
  const rules = rulesOf(field);
  const note = {
    ...described(`${field.parent.typeName}.${field.name}`),
    ...(!options.forInput && rules?.outputOnly === true ? { readOnly: true } : {}),
  };
  switch (field.fieldKind) {
    case "scalar":
      return { ...note, ...scalarSchema(field.scalar, rules) };
    case "message":
      return { ...note, ...messageRef(field.message, options) };
    case "enum":
      return { ...note, type: "string", enum: field.enum.values.map((value) => value.name) };
    case "list":
      return { ...note, type: "array", items: itemSchema(field, rules, options), ...sized(rules, "maxItems") };
    case "map":
      return {
        ...note,
        type: "object",
        additionalProperties: itemSchema(field, undefined, options),
        ...sized(rules, "maxProperties"),
      };
  }
}

function itemSchema(
  field: DescField & { fieldKind: "list" | "map" },
  rules: FieldRules | undefined,
  options: MessageSchemaOptions,
): JsonSchema {
  if (field.message !== undefined) return messageRef(field.message, options);
  const itemRules = rules === undefined ? undefined : { ...rules, maxSize: 0 };
  return scalarSchema(field.scalar ?? ScalarType.STRING, itemRules);
}

function messageRef(desc: DescMessage, options: MessageSchemaOptions): JsonSchema {
  return WELL_KNOWN[desc.typeName] ?? { $ref: `${options.refPrefix}${desc.name}` };
}

function scalarSchema(type: ScalarType, rules: FieldRules | undefined): JsonSchema {
  switch (type) {
    case ScalarType.BOOL:
      return { type: "boolean" };
    case ScalarType.STRING:
      return textSchema(rules);
    case ScalarType.BYTES:
      return { type: "string", contentEncoding: "base64" };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return { type: "number" };
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      // Protobuf's mapping writes 64-bit numbers as text and reads both.
      return { type: ["string", "integer"], pattern: "^-?[0-9]+$", ...bounds(rules) };
    case ScalarType.INT32:
    case ScalarType.UINT32:
    case ScalarType.SINT32:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return { type: "integer", ...bounds(rules) };
  }
}

function textSchema(rules: FieldRules | undefined): JsonSchema {
  const words = rules?.oneOf ?? [];
  const enumeration = words.length === 0 ? {} : { enum: [...new Set(["", ...words])], default: words[0] };
  const pattern = PATTERNS[rules?.format ?? ""];
  return {
    type: "string",
    ...enumeration,
    ...(pattern === undefined ? {} : { pattern: rules?.required === true ? pattern : `^$|${pattern}` }),
    ...(rules?.format ? { "x-berth-format": rules.format } : {}),
    ...sized(rules, "maxLength"),
  };
}

/** Of the formats that are regular; the others are checked by the controller. */
const PATTERNS: Readonly<Record<string, string>> = {
  name: "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
  "node-name": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
  "quantity-cpu": "^[0-9]+(\\.[0-9]{1,3})?$|^[0-9]+m$",
  "count-or-percent": "^[0-9]{1,5}%?$",
  "quantity-memory": "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
  "quantity-disk": "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
  path: "^/",
  "env-name": "^[A-Za-z_][A-Za-z0-9_.-]*$",
};

const WELL_KNOWN: Readonly<Record<string, JsonSchema>> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.protobuf.Duration": { type: "string", pattern: "^[0-9]+(\\.[0-9]{1,9})?s$", examples: ["10s", "1.5s"] },
};

function bounds(rules: FieldRules | undefined): JsonSchema {
  return {
    ...(rules?.min === undefined ? {} : { minimum: Number(rules.min) }),
    ...(rules?.max === undefined ? {} : { maximum: Number(rules.max) }),
  };
}

function sized(rules: FieldRules | undefined, keyword: string): JsonSchema {
  return rules === undefined || rules.maxSize === 0 ? {} : { [keyword]: rules.maxSize };
}

function described(name: string): JsonSchema {
  const description = commentOf(name);
  return description === undefined ? {} : { description };
}

function isOutput(field: DescField): boolean {
  return rulesOf(field)?.outputOnly === true;
}
