/**
 * A YAML (or JSON) document of a manifest file, with the place of every field, so that each complaint says where.
 */
import { isMap, isPair, isScalar, isSeq, LineCounter, parseAllDocuments, type Document, type Node } from "yaml";
import { StatusError, type FieldViolation } from "@berth/base";

export type Path = readonly (string | number)[];

export interface ManifestDocument {
  /** As the user named the file; `-` for standard input. */
  readonly file: string;
  readonly value: unknown;
  /** `file:line:column` of a field, or of the nearest one around it. */
  locate(path: Path): string;
}

/** @throws INVALID_ARGUMENT `MANIFEST_SYNTAX` with file, line and column. */
export function parseDocuments(file: string, text: string): ManifestDocument[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  if (!Array.isArray(documents)) return [];
  return documents
    .filter((document) => document.errors.length > 0 || document.toJS() !== null)
    .map((document) => {
      refuseBroken(file, lines, document);
      return {
        file,
        value: document.toJS({ maxAliasCount: 100 }) as unknown,
        locate: (path: Path) => at(file, lines, offsetOf(document, path)),
      };
    });
}

function refuseBroken(file: string, lines: LineCounter, document: Document): void {
  const [error] = document.errors;
  if (error === undefined) return;
  throw new StatusError("INVALID_ARGUMENT", `${at(file, lines, error.pos[0])}: ${error.message}`, {
    reason: "MANIFEST_SYNTAX",
    cause: error,
  });
}

function at(file: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${file}:${line}:${col}`;
}

/** Where the key (or item) at the end of the path begins; where the path ends early, the last thing found. */
function offsetOf(document: Document, path: Path): number {
  let node: unknown = document.contents;
  let offset = rangeStart(node as Node | null) ?? 0;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(step),
      );
      if (pair === undefined) return offset;
      offset = rangeStart(pair.key as Node) ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof step === "number") {
      const item = node.items[step] as Node | undefined;
      if (item === undefined) return offset;
      offset = rangeStart(item) ?? offset;
      node = item;
    } else return offset;
  }
  return offset;
}

function rangeStart(node: Node | null): number | undefined {
  return node?.range?.[0];
}

/** `spec.container.env[2].name`, `metadata.labels["a.b"]` → its steps. */
export function parseFieldPath(field: string): Path {
  return [...field.matchAll(/\["([^"]*)"\]|\[(\d+)\]|([^.[\]]+)/g)].map((match) =>
    match[2] === undefined ? (match[1] ?? match[3]!) : Number(match[2]),
  );
}

export function formatFieldPath(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(step)) return `${text}["${step}"]`;
    return text === "" ? step : `${text}.${step}`;
  }, "");
}

/** The same complaints, each with its place in the file in front of the field. */
export function placeViolations(document: ManifestDocument, violations: readonly FieldViolation[]): FieldViolation[] {
  return violations.map(({ field, description }) => ({
    field: `${document.locate(parseFieldPath(field))}: ${field}`,
    description,
  }));
}
