/**
 * The reference of a configuration, made of its schema: every field with its type, its default and what it means. A field without a
 * meaning (`describe`) is an error here, so that none comes without one. Beside the description, schemas may tell by `meta`:
 * `form` (the type, where "text" says too little), `otherwise` (what stands in for a missing value), `key` (of a record's entries).
 */
import { z } from "zod";
import type { EnvBinding } from "./resolve.ts";

interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly form?: string;
  readonly otherwise?: string;
  readonly key?: string;
  readonly const?: unknown;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Node | false;
  readonly items?: Node;
  readonly anyOf?: readonly Node[];
  readonly oneOf?: readonly Node[];
}

interface Row {
  readonly path: string;
  readonly type: string;
  readonly otherwise: string;
  readonly meaning: string;
}

/** The rows of a Markdown table, with its heading. */
export function referenceTable(schema: z.ZodType, bindings: readonly EnvBinding[]): string {
  const root = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Node;
  const variables = new Map(bindings.map(({ variable, path }) => [path.join("."), variable]));
  const rows = [...rowsBeneath(root, "", new Map())].map(({ path, type, otherwise, meaning }) => {
    const variable = variables.get(path);
    const or = variable === undefined ? "" : ` (\`${variable}\`)`;
    return `| \`${path}\`${or} | ${type} | ${otherwise} | ${meaning} |`;
  });
  return ["| field (variable) | type | default | meaning |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

/** @param seen choices that were told already, by what they are: the same one is told once */
function* rowsBeneath(node: Node, prefix: string, seen: Map<string, string>): Generator<Row> {
  for (const [name, field] of Object.entries(node.properties ?? {})) {
    if (field.const !== undefined) continue;
    const path = `${prefix}${name}`;
    const isRequired = node.required?.includes(name) ?? false;
    if (field.description === undefined) throw new Error(`the field ${path} does not say what it means`);
    const row = { path, type: typeOf(field), otherwise: otherwiseOf(field, isRequired), meaning: field.description };
    const inner = insideOf(field, path);
    const choices = inner?.node.oneOf;
    const told = choices === undefined ? undefined : seen.get(JSON.stringify(choices));
    if (told !== undefined) {
      yield { ...row, meaning: `${row.meaning} As \`${told}\`.` };
      continue;
    }
    yield row;
    if (inner === undefined) continue;
    if (choices === undefined) yield* rowsBeneath(inner.node, `${inner.path}.`, seen);
    else yield* rowsOfChoices(choices, inner.path, path, seen);
  }
}

function* rowsOfChoices(
  choices: readonly Node[],
  path: string,
  told: string,
  seen: Map<string, string>,
): Generator<Row> {
  seen.set(JSON.stringify(choices), told);
  const kinds = choices.map((choice) => `\`${String(choice.properties?.["kind"]?.const)}\``);
  yield { path: `${path}.kind`, type: kinds.join(", "), otherwise: "required", meaning: "What is required." };
  for (const [index, choice] of choices.entries()) {
    for (const row of rowsBeneath(choice, `${path}.`, seen)) {
      yield { ...row, meaning: `Of ${kinds[index]}: ${row.meaning}` };
    }
  }
}

/** What has fields of its own: an object, a record's or a list's entries. */
function insideOf(field: Node, path: string): { readonly node: Node; readonly path: string } | undefined {
  const node = field.anyOf?.find(({ type }) => type !== "null") ?? field;
  if (node.properties !== undefined || node.oneOf !== undefined) return { node, path };
  if (node.items !== undefined) return insideOf(node.items, `${path}[]`);
  const entries = node.additionalProperties;
  return entries === undefined || entries === false ? undefined : insideOf(entries, `${path}.<${field.key ?? "name"}>`);
}

function typeOf(field: Node): string {
  if (field.form !== undefined) return field.form;
  if (field.enum !== undefined) return field.enum.map((value) => `\`${String(value)}\``).join(", ");
  if (field.anyOf !== undefined) return field.anyOf.map((node) => typeOf(node)).join(" or ");
  if (field.items !== undefined) return `list of ${typeOf(field.items)}`;
  if (field.type === "object") {
    const entries = field.additionalProperties;
    return entries === undefined || entries === false ? "fields" : `${typeOf(entries)} by ${field.key ?? "name"}`;
  }
  if (field.type === "integer" || field.type === "number") return numberOf(field);
  if (field.type === "boolean") return "true or false";
  if (field.oneOf !== undefined) return "fields";
  return field.type === "string" ? "text" : (field.type ?? "any");
}

function numberOf({ type, minimum, exclusiveMinimum, maximum }: Node): string {
  const bounds = [
    minimum === undefined ? undefined : `from ${minimum}`,
    exclusiveMinimum === undefined ? undefined : `above ${exclusiveMinimum}`,
    maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? undefined : `to ${maximum}`,
  ];
  return [type === "integer" ? "whole number" : "number", ...bounds].filter((word) => word !== undefined).join(" ");
}

function otherwiseOf(field: Node, isRequired: boolean): string {
  if (field.otherwise !== undefined) return field.otherwise;
  if (field.default !== undefined && field.properties === undefined && field.anyOf === undefined) {
    return `\`${typeof field.default === "string" ? field.default : JSON.stringify(field.default)}\``;
  }
  return isRequired ? "required" : "";
}
