/**
 * JSON against a message's shape, before protobuf's own parser sees it: that one stops at the first fault and names fields
 * by their type, ours reports all, with the path that the user wrote and, for unknown fields, the nearest that exist.
 *
 * Accepted is what protobuf's JSON mapping accepts, but for one leniency it has: unknown fields are always refused.
 */
import { fromJson, ScalarType, type DescField, type DescMessage, type JsonValue } from "@bufbuild/protobuf";
import type { FieldViolation } from "@berth/base";
import { suggest } from "@berth/model";

const INT64 = /^-?[0-9]{1,20}$/;
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

/** What is wrong with the shape of a JSON value that is to become a message; empty when `fromJson` will take it. */
export function checkJsonShape(desc: DescMessage, json: unknown, path = ""): FieldViolation[] {
  const out: FieldViolation[] = [];
  checkMessage(desc, json, path, out);
  return out;
}

function checkMessage(desc: DescMessage, json: unknown, path: string, out: FieldViolation[]): void {
  const wellKnown = WELL_KNOWN[desc.typeName];
  if (wellKnown !== undefined) return checkWellKnown(desc, wellKnown, json, path, out);
  if (!isObject(json)) return wrongType(json, "a map of fields", path, out);
  for (const [key, value] of Object.entries(json)) {
    const at = path === "" ? key : `${path}.${key}`;
    const field = fieldOf(desc, key);
    if (field === undefined) {
      const names = desc.fields.map((candidate) => candidate.jsonName);
      out.push({ field: at, description: `is not a field of ${desc.name}${suggest(key, names)}` });
    } else if (value !== null) {
      checkField(field, value, at, out);
    }
  }
}

/** By JSON name or proto name, as protobuf's mapping has it. */
export function fieldOf(desc: DescMessage, key: string): DescField | undefined {
  return desc.fields.find((field) => field.jsonName === key || field.name === key);
}

function checkField(field: DescField, value: unknown, path: string, out: FieldViolation[]): void {
  switch (field.fieldKind) {
    case "message":
      return checkMessage(field.message, value, path, out);
    case "scalar":
      return checkScalar(field.scalar, value, path, out);
    case "enum":
      if (typeof value !== "string" && typeof value !== "number") wrongType(value, "a word", path, out);
      return undefined;
    case "list":
      if (!Array.isArray(value)) return wrongType(value, "a list", path, out);
      return value.forEach((item: unknown, index) => checkItem(field, item, `${path}[${index}]`, out));
    case "map":
      if (!isObject(value)) return wrongType(value, "a map", path, out);
      for (const [key, item] of Object.entries(value)) checkItem(field, item, `${path}[${JSON.stringify(key)}]`, out);
      return undefined;
  }
}

function checkItem(
  field: DescField & { fieldKind: "list" | "map" },
  item: unknown,
  path: string,
  out: FieldViolation[],
): void {
  if (field.message !== undefined) checkMessage(field.message, item, path, out);
  else if (field.scalar !== undefined) checkScalar(field.scalar, item, path, out);
}

function checkScalar(type: ScalarType, value: unknown, path: string, out: FieldViolation[]): void {
  const expected = SCALARS[type] ?? NUMBER;
  if (!expected.accepts(value)) wrongType(value, expected.noun, path, out);
}

interface Expected {
  readonly noun: string;
  readonly accepts: (value: unknown) => boolean;
}

const TEXT: Expected = { noun: "text", accepts: (value) => typeof value === "string" };
const BOOL: Expected = { noun: "true or false", accepts: (value) => typeof value === "boolean" };
const NUMBER: Expected = { noun: "a number", accepts: (value) => typeof value === "number" };
const BYTES: Expected = {
  noun: "base64 text",
  accepts: (value) => typeof value === "string" && BASE64.test(value),
};

function whole(min: bigint, max: bigint): Expected {
  return {
    noun: `a whole number from ${min} to ${max}`,
    accepts: (value) => {
      if (typeof value === "number" ? !Number.isInteger(value) : typeof value !== "string" || !INT64.test(value))
        return false;
      const number = BigInt(value as number | string);
      return number >= min && number <= max;
    },
  };
}

const INT32 = whole(-(2n ** 31n), 2n ** 31n - 1n);
const UINT32 = whole(0n, 2n ** 32n - 1n);
const LONG = whole(-(2n ** 63n), 2n ** 63n - 1n);
const ULONG = whole(0n, 2n ** 64n - 1n);
const SCALARS: Readonly<Partial<Record<ScalarType, Expected>>> = {
  [ScalarType.STRING]: TEXT,
  [ScalarType.BOOL]: BOOL,
  [ScalarType.BYTES]: BYTES,
  [ScalarType.INT32]: INT32,
  [ScalarType.SINT32]: INT32,
  [ScalarType.SFIXED32]: INT32,
  [ScalarType.UINT32]: UINT32,
  [ScalarType.FIXED32]: UINT32,
  [ScalarType.INT64]: LONG,
  [ScalarType.SINT64]: LONG,
  [ScalarType.SFIXED64]: LONG,
  [ScalarType.UINT64]: ULONG,
  [ScalarType.FIXED64]: ULONG,
};

const WELL_KNOWN: Readonly<Record<string, string>> = {
  "google.protobuf.Timestamp": "a time such as 2026-01-02T15:04:05Z",
  "google.protobuf.Duration": "a duration in seconds such as 10s or 1.5s",
};

function checkWellKnown(desc: DescMessage, noun: string, json: unknown, path: string, out: FieldViolation[]): void {
  try {
    fromJson(desc, json as JsonValue);
  } catch {
    wrongType(json, noun, path, out);
  }
}

function wrongType(value: unknown, noun: string, path: string, out: FieldViolation[]): void {
  out.push({ field: path, description: `is ${describe(value)} where ${noun} must stand` });
}

function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "string")
    return `the text ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)}`;
  if (typeof value === "number" || typeof value === "boolean") return `${value}`;
  return "a map";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
