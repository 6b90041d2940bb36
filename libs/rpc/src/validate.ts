/**
 * Requests against their `(berth.v1.rules)`.
 *
 * Invariants: every violation is reported, not just the first; a path is what a user wrote in a manifest
 * (`spec.container.env[2].name`), so the field that carries the resource is left out of it; output-only fields are cleared,
 * because a user sends back what they were shown. Text that Postgres cannot store (NUL, lone surrogates) is refused here.
 */
import {
  clearField,
  ScalarType,
  type DescField,
  type DescMessage,
  type DescMethod,
  type Message,
} from "@bufbuild/protobuf";
import { reflect, type ReflectList, type ReflectMap, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { StatusError, type FieldViolation } from "@berth/base";
import { closest, FORMATS, labelValueProblem } from "@berth/model";
import type { FieldRules } from "@berth/proto";
import { bodyFieldOf, rulesOf } from "./rules.ts";

const MAX_VIOLATIONS = 50;

/** Clears output-only fields and checks the rest. @throws INVALID_ARGUMENT `FIELD_INVALID` with all violations */
export function validateRequest(method: DescMethod, request: Message): void {
  const violations = checkMessage(method.input, request, bodyFieldOf(method));
  if (violations.length > 0) throw StatusError.invalid(violations);
}

/**
 * The violations of a message, as a resource of a manifest or a request has them. Clears output-only fields.
 * @param root the field to leave out of paths
 */
export function checkMessage(desc: DescMessage, message: Message, root?: DescField): FieldViolation[] {
  const violations: FieldViolation[] = [];
  visit(reflect(desc, message), "", violations, root);
  return violations.slice(0, MAX_VIOLATIONS);
}

function visit(message: ReflectMessage, path: string, out: FieldViolation[], root?: DescField): void {
  for (const field of message.fields) {
    const rules = rulesOf(field);
    const name = field === root ? "" : join(path, field.jsonName);
    if (rules?.outputOnly === true) {
      clearField(message.message, field);
      continue;
    }
    if (!message.isSet(field)) {
      if (rules?.required === true)
        out.push({ field: name === "" ? field.jsonName : name, description: "is required" });
      continue;
    }
    visitField(message, field, rules, name, out);
  }
}

function visitField(
  message: ReflectMessage,
  field: DescField,
  rules: FieldRules | undefined,
  name: string,
  out: FieldViolation[],
): void {
  switch (field.fieldKind) {
    case "scalar":
      return checkScalar(message.get(field), rules, name, out);
    case "message":
      return visitMessage(message.get(field), name, out);
    case "list":
      return visitList(message.get(field), rules, name, out);
    case "map":
      return visitMap(message.get(field), rules, name, out);
    case "enum":
      return undefined;
  }
}

function visitMessage(message: ReflectMessage, name: string, out: FieldViolation[]): void {
  if (message.desc.typeName === "google.protobuf.Duration") {
    const { seconds, nanos } = message.message as Message & { seconds: bigint; nanos: number };
    if (seconds < 0n || nanos < 0) out.push({ field: name, description: "is negative; write a duration such as 10s" });
    return;
  }
  if (!message.desc.typeName.startsWith("google.protobuf.")) visit(message, name, out);
}

function visitList(list: ReflectList, rules: FieldRules | undefined, name: string, out: FieldViolation[]): void {
  checkSize(list.size, "items", rules, name, out);
  const itemRules = rules === undefined ? undefined : { ...rules, maxSize: 0 };
  let index = 0;
  for (const item of list) {
    if (out.length > MAX_VIOLATIONS) return;
    const at = `${name}[${index}]`;
    if (list.field().listKind === "message") visitMessage(item as ReflectMessage, at, out);
    else if (itemRules?.format && item === "") out.push({ field: at, description: "is empty" });
    else checkScalar(item, itemRules, at, out);
    index += 1;
  }
}

function visitMap(map: ReflectMap, rules: FieldRules | undefined, name: string, out: FieldViolation[]): void {
  checkSize(map.size, "entries", rules, name, out);
  for (const [key, value] of map) {
    if (out.length > MAX_VIOLATIONS) return;
    const at = `${name}[${JSON.stringify(key)}]`;
    if (typeof key === "string") checkText(key, { format: rules?.format ?? "" }, at, out);
    if (typeof value === "string") {
      const problem = textProblem(value, {}) ?? (rules?.format === "label-key" ? labelProblem(value) : undefined);
      if (problem !== undefined) out.push({ field: at, description: problem });
    } else if (map.field().mapKind === "message") visitMessage(value as ReflectMessage, at, out);
  }
}

function checkScalar(value: unknown, rules: FieldRules | undefined, name: string, out: FieldViolation[]): void {
  if (typeof value === "string") checkText(value, rules ?? {}, name, out);
  else if (typeof value === "number" || typeof value === "bigint") checkNumber(value, rules, name, out);
  else if (value instanceof Uint8Array) checkSize(value.length, "bytes", rules, name, out);
}

type TextRules = Partial<Pick<FieldRules, "oneOf" | "format" | "maxSize">>;

function checkText(value: string, rules: TextRules, name: string, out: FieldViolation[]): void {
  const problem = textProblem(value, rules);
  if (problem !== undefined) out.push({ field: name, description: problem });
}

function textProblem(value: string, { oneOf = [], format = "", maxSize = 0 }: TextRules): string | undefined {
  if (value.includes("\0")) return "has a NUL character";
  if (!value.isWellFormed()) return "is not valid Unicode text";
  if (maxSize > 0 && value.length > maxSize)
    return `is ${value.length} characters long; at most ${maxSize} are allowed`;
  if (oneOf.length > 0 && value !== "" && !oneOf.includes(value)) {
    const near = closest(value, oneOf);
    const hint = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
    return `${JSON.stringify(value)} is not one of ${oneOf.filter((word) => word !== "").join(", ")}${hint}`;
  }
  return value === "" ? undefined : FORMATS[format]?.(value);
}

function labelProblem(value: string): string | undefined {
  const problem = labelValueProblem(value);
  return problem === undefined ? undefined : `${JSON.stringify(value)} ${problem}`;
}

function checkNumber(value: number | bigint, rules: FieldRules | undefined, name: string, out: FieldViolation[]): void {
  if (rules?.min !== undefined && value < rules.min) {
    out.push({ field: name, description: `is ${value}; the least is ${rules.min}` });
  } else if (rules?.max !== undefined && value > rules.max) {
    out.push({ field: name, description: `is ${value}; the most is ${rules.max}` });
  }
}

function checkSize(
  size: number,
  unit: string,
  rules: FieldRules | undefined,
  name: string,
  out: FieldViolation[],
): void {
  const max = rules?.maxSize ?? 0;
  if (max > 0 && size > max) out.push({ field: name, description: `has ${size} ${unit}; at most ${max} are allowed` });
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

/** Formats that the rules name and the model does not know: a mistake in a proto file. For the test of the definitions. */
export function unknownFormats(desc: DescMessage): string[] {
  return desc.fields.flatMap((field) => {
    const format = rulesOf(field)?.format ?? "";
    const known = format === "" || Object.hasOwn(FORMATS, format);
    const text = field.scalar === ScalarType.STRING || field.fieldKind === "map";
    return known && (format === "" || text) ? [] : [`${desc.typeName}.${field.name}: ${format}`];
  });
}
