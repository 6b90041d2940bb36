/**
 * One request message from path, query and body.
 *
 * The three are laid together as protobuf JSON and checked as one, so that a wrong type or an unknown name is reported
 * alike wherever it stood; what the path names may be left out of the body and must not contradict it.
 */
import {
  fromJson,
  ScalarType,
  type DescField,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { StatusError, type FieldViolation } from "@berth/base";
import { suggest } from "@berth/model";
import { checkJsonShape, fieldOf } from "../json-shape.ts";
import type { MatchedRoute } from "./routes.ts";

type Draft = Record<string, unknown>;

/** @throws INVALID_ARGUMENT `FIELD_INVALID` with a violation for each unknown field, wrong type and contradiction */
export function requestMessage({ route, bound }: MatchedRoute, query: URLSearchParams, body: unknown): Message {
  const { input } = route.rpc;
  const bodyField = input.fields.find((field) => field.name === route.binding.body);
  const draft: Draft = {};
  const violations: FieldViolation[] = [];
  if (bodyField !== undefined) {
    draft[bodyField.jsonName] = body ?? {};
    violations.push(...checkJsonShape(bodyField.message!, body ?? {}));
  } else if (route.binding.body === "*") {
    violations.push(...checkJsonShape(input, body ?? {}));
    if (isDraft(body)) Object.assign(draft, body);
  } else if (body !== undefined) {
    violations.push({ field: "", description: `${route.binding.method} takes no body here; send none` });
  }
  addQuery(input, query, draft, violations, bodyField);
  if (violations.length > 0) throw StatusError.invalid(violations);
  for (const { field, value } of bound) bindPath(input, field, value, draft, bodyField);
  return fromJson(input, draft as JsonObject);
}

function addQuery(
  desc: DescMessage,
  query: URLSearchParams,
  draft: Draft,
  out: FieldViolation[],
  bodyField: DescField | undefined,
): void {
  for (const key of new Set(query.keys())) {
    const field = fieldOf(desc, key);
    if (field === undefined || field === bodyField) {
      const names = desc.fields.filter((candidate) => candidate !== bodyField).map((candidate) => candidate.jsonName);
      out.push({ field: key, description: `is not a query parameter here${suggest(key, names)}` });
      continue;
    }
    const texts = query.getAll(key);
    const value =
      field.fieldKind === "list" ? texts.map((text) => queryValue(field, text)) : queryValue(field, texts.at(-1)!);
    const found = checkJsonShape(desc, { [field.jsonName]: value });
    if (found.length > 0) out.push(...found);
    else draft[field.jsonName] = value;
  }
}

/** Query text as the JSON that the field would have; what does not fit stays text, for the check to name it. */
function queryValue(field: DescField, text: string): JsonValue {
  if (field.scalar === ScalarType.BOOL) {
    if (text === "true" || text === "") return true;
    return text === "false" ? false : text;
  }
  return text;
}

/** Sets what the path says; a body that says otherwise is refused. */
function bindPath(
  desc: DescMessage,
  path: readonly string[],
  value: string,
  draft: Draft,
  bodyField: DescField | undefined,
): void {
  let target = draft;
  let message = desc;
  const names: string[] = [];
  for (const [index, part] of path.entries()) {
    const field = message.fields.find((candidate) => candidate.name === part)!;
    if (field !== bodyField) names.push(field.jsonName);
    const key = Object.hasOwn(target, field.name) ? field.name : field.jsonName;
    if (index === path.length - 1) {
      const given = target[key];
      if (given !== undefined && given !== null && given !== "" && given !== value) {
        const field = names.join(".");
        const description = `is ${JSON.stringify(given)} where the path says ${JSON.stringify(value)}; make them equal`;
        throw StatusError.invalid([{ field, description }]);
      }
      target[key] = value;
      return;
    }
    if (!isDraft(target[key])) target[key] = {};
    target = target[key] as Draft;
    message = field.message!;
  }
}

function isDraft(value: unknown): value is Draft {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
