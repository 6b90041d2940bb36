/** Reads manifests: files, folders of them, or standard input, into typed resources in the order in which to apply them. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { fromJson, type JsonValue, type Message } from "@bufbuild/protobuf";
import type { Metadata } from "@berth/proto";
import { suggest } from "@berth/model";
import { checkJsonShape, checkMessage } from "@berth/rpc";
import { StatusError, type FieldViolation } from "@berth/base";
import { UsageError } from "../exit-code.ts";
import type { Kind } from "../kind.ts";
import { KINDS } from "../kinds.ts";
import type { Session } from "../session.ts";
import { parseDocuments, placeViolations, type ManifestDocument } from "./document.ts";

export interface LoadedResource {
  readonly kind: Kind;
  readonly object: Message & { metadata?: Metadata | undefined };
  readonly document: ManifestDocument;
}

const ENDINGS = new Set([".yaml", ".yml", ".json"]);

/**
 * All resources of the given files; those without a namespace get the session's.
 * @throws INVALID_ARGUMENT with every complaint about every document, each with its place.
 */
export async function loadManifests(session: Session, filenames: readonly string[]): Promise<LoadedResource[]> {
  const violations: FieldViolation[] = [];
  const resources: LoadedResource[] = [];
  for (const { file, content } of await readAll(session, filenames)) {
    for (const document of parseDocuments(file, content).flatMap(unpack)) {
      const loaded = load(document);
      if (Array.isArray(loaded)) violations.push(...placeViolations(document, loaded));
      else resources.push(inNamespace(loaded, session));
    }
  }
  if (violations.length > 0) throw StatusError.invalid(violations, "MANIFEST_INVALID");
  if (resources.length === 0) throw new StatusError("INVALID_ARGUMENT", `no resources in ${filenames.join(", ")}`);
  return resources.sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind));
}

/** A list of resources, as `get -o json` prints, is as many documents. */
function unpack(document: ManifestDocument): ManifestDocument[] {
  if (!Array.isArray(document.value)) return [document];
  return document.value.map((value: unknown, index) => ({
    file: document.file,
    value,
    locate: (path) => document.locate([index, ...path]),
  }));
}

function load(document: ManifestDocument): LoadedResource | FieldViolation[] {
  const { value } = document;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return [{ field: "the document", description: "must be a mapping with apiVersion, kind, metadata and spec" }];
  }
  const { apiVersion, kind: kindName, ...rest } = value as Record<string, unknown>;
  if (apiVersion !== "berth/v1") {
    return [{ field: "apiVersion", description: `is ${JSON.stringify(apiVersion)}, and must be berth/v1` }];
  }
  const applicable = KINDS.filter((kind) => kind.apply !== undefined);
  const kind = applicable.find((candidate) => candidate.kind === kindName);
  if (kind === undefined) {
    const names = applicable.map((candidate) => candidate.kind);
    const wrong = kindName === undefined ? "is missing" : `is ${JSON.stringify(kindName)}, which is no kind to apply`;
    return [{ field: "kind", description: wrong + suggest(String(kindName), names) }];
  }
  const violations = checkJsonShape(kind.schema, rest);
  if (violations.length > 0) return violations;
  if ((rest["metadata"] as { name?: string } | undefined)?.name === undefined) {
    return [{ field: "metadata.name", description: "is missing" }];
  }
  try {
    const object = fromJson(kind.schema, rest as JsonValue) as LoadedResource["object"];
    const wrong = checkMessage(kind.schema, object);
    return wrong.length > 0 ? wrong : { kind, document, object };
  } catch (error) {
    return [{ field: "the document", description: (error as Error).message }];
  }
}

function inNamespace(resource: LoadedResource, session: Session): LoadedResource {
  const { metadata } = resource.object;
  if (resource.kind.namespaced && metadata !== undefined && metadata.namespace === "") {
    metadata.namespace = session.namespace();
  }
  return resource;
}

async function readAll(session: Session, filenames: readonly string[]): Promise<{ file: string; content: string }[]> {
  const files: { file: string; content: string }[] = [];
  for (const name of filenames) {
    if (name === "-") files.push({ file: "-", content: await text(session.stdin) });
    else
      for (const file of expand(session.cwd, name))
        files.push({ file, content: readFileSync(resolve(session.cwd, file), "utf8") });
  }
  return files;
}

function expand(cwd: string, name: string): string[] {
  let isFolder: boolean;
  try {
    isFolder = statSync(resolve(cwd, name)).isDirectory();
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new UsageError(
      `manifest ${name} ${missing ? "does not exist" : `cannot be read: ${(error as Error).message}`}`,
    );
  }
  if (!isFolder) return [name];
  return readdirSync(resolve(cwd, name))
    .filter((entry) => ENDINGS.has(extname(entry)))
    .sort()
    .map((entry) => join(name, entry));
}
