/**
 * From a file and the environment to one frozen value, or to an error that names file, line, field and the way out.
 *
 * The environment wins over the file, field by field. A file is YAML, of which JSON is a part. Values never appear in
 * errors: a URL may carry a password.
 */
import { readFile } from "node:fs/promises";
import { StatusError, type FieldViolation } from "@berth/base";
import { isMap, isNode, LineCounter, parseDocument, type Document } from "yaml";
import type { z } from "zod";

type Scalar = string | number | boolean;

/** A variable of the environment and the path of the field it sets; `parse` turns its text into the field's type. */
export interface EnvBinding {
  readonly variable: string;
  readonly path: readonly string[];
  readonly parse?: (text: string) => Scalar;
}

export interface ConfigSource {
  /** Path of a YAML or JSON file; without it the environment and the defaults must do. */
  readonly file?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export type Frozen<T> = T extends (infer E)[]
  ? readonly Frozen<E>[]
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T;

/** @throws INVALID_ARGUMENT `CONFIG_INVALID` with a violation per field; NOT_FOUND when the named file does not exist. */
export async function resolveConfig<S extends z.ZodType>(
  schema: S,
  bindings: readonly EnvBinding[],
  source: ConfigSource,
): Promise<Frozen<z.output<S>>> {
  const file = source.file === undefined ? undefined : await readConfigFile(source.file);
  const values = file?.values ?? {};
  const fromEnv = applyEnvironment(values, bindings, source.env);
  const result = schema.safeParse(values);
  if (!result.success) throw invalid(result.error, file, fromEnv, bindings);
  return deepFreeze(result.data) as Frozen<z.output<S>>;
}

interface ConfigFile {
  readonly name: string;
  readonly values: Record<string, unknown>;
  readonly document: Document;
  readonly lines: LineCounter;
}

async function readConfigFile(name: string): Promise<ConfigFile> {
  const text = await readFile(name, "utf8").catch((error: unknown) => {
    const cause = StatusError.from(error);
    throw new StatusError(cause.code, `configuration file ${name} cannot be read: ${cause.reason}`, {
      reason: "CONFIG_UNREADABLE",
      cause,
    });
  });
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken !== undefined) {
    const { line, col } = lines.linePos(broken.pos[0]);
    throw configError([{ field: "", description: `${name}:${line}:${col}: is not YAML: ${broken.message}` }]);
  }
  if (document.contents !== null && !isMap(document.contents)) {
    throw configError([{ field: "", description: `${name}: is not a map of fields; write \`field: value\` lines` }]);
  }
  return { name, values: (document.toJS() as Record<string, unknown> | null) ?? {}, document, lines };
}

/** Sets fields from the environment; returns which path came from which variable. */
function applyEnvironment(
  values: Record<string, unknown>,
  bindings: readonly EnvBinding[],
  env: ConfigSource["env"],
): ReadonlyMap<string, string> {
  const fromEnv = new Map<string, string>();
  for (const { variable, path, parse } of bindings) {
    const text = env[variable];
    if (text === undefined || text === "") continue;
    let target = values;
    for (const key of path.slice(0, -1)) {
      const next = target[key];
      if (typeof next !== "object" || next === null) target[key] = {};
      target = target[key] as Record<string, unknown>;
    }
    target[path.at(-1)!] = parse === undefined ? text : parse(text);
    fromEnv.set(path.join("."), variable);
  }
  return fromEnv;
}

function invalid(
  error: z.ZodError,
  file: ConfigFile | undefined,
  fromEnv: ReadonlyMap<string, string>,
  bindings: readonly EnvBinding[],
): StatusError {
  const violations = error.issues.flatMap((issue) => {
    const path = issue.path.map(String);
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => {
        const field = [...path, key].join(".");
        return {
          field,
          description: `${placeOf(file, [...path, key])}is not a field of this configuration; remove it`,
        };
      });
    }
    const field = path.join(".");
    const variable = fromEnv.get(field);
    const missing = issue.code === "invalid_type" && issue.input === undefined && issue.message.includes("undefined");
    const where = variable === undefined ? placeOf(file, path) : `from the environment variable ${variable}: `;
    const description = missing ? `is missing; ${howToSet(field, file, bindings)}` : `${where}${issue.message}`;
    return [{ field, description }];
  });
  return configError(violations);
}

function howToSet(field: string, file: ConfigFile | undefined, bindings: readonly EnvBinding[]): string {
  const variable = bindings.find((binding) => binding.path.join(".") === field)?.variable;
  const inFile = file === undefined ? `give a configuration file with ${field}` : `set it in ${file.name}`;
  return variable === undefined ? inFile : `${inFile} or set the environment variable ${variable}`;
}

/** `berth.yaml:3: `, for the deepest part of the path that the file has; empty without a file. */
function placeOf(file: ConfigFile | undefined, path: readonly string[]): string {
  if (file === undefined) return "";
  for (let depth = path.length; depth > 0; depth -= 1) {
    const node = file.document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return `${file.name}:${file.lines.linePos(node.range[0]).line}: `;
  }
  return `${file.name}: `;
}

function configError(violations: readonly FieldViolation[]): StatusError {
  const text = violations.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`));
  return new StatusError("INVALID_ARGUMENT", `configuration: ${text.join("; ")}`, {
    reason: "CONFIG_INVALID",
    violations,
  });
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}
