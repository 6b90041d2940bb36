/**
 * Writes what is made from the proto files besides their code: the comments (`gen/comments.ts`) and the JSON Schema of
 * manifests (`proto/schema/berth.schema.json`). With `--check` it writes nothing and fails when a file is not current.
 *
 * Run by `npm run gen`, from the repository's root, with buf on PATH.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type DescriptorProto, type FileDescriptorProto } from "@bufbuild/protobuf/wkt";

const ROOT = resolve(import.meta.dirname, "../../..");
export const COMMENTS_FILE = join(ROOT, "libs/rpc/src/gen/comments.ts");
export const SCHEMA_FILE = join(ROOT, "proto/schema/berth.schema.json");

/** Field numbers of descriptor.proto, of which the paths of source locations are made. */
const MESSAGE = 4;
const SERVICE = 6;
const FIELD = 2;
const METHOD = 2;
const NESTED = 3;

/** Comments by full name: `berth.v1.Workload`, `berth.v1.Workload.spec`, `berth.v1.TaskService.Logs`. */
export function readComments(): Record<string, string> {
  const image = execFileSync("buf", ["build", "--as-file-descriptor-set", "-o", "-"], {
    cwd: join(ROOT, "proto"),
    maxBuffer: 64 * 1024 * 1024,
  });
  const comments: Record<string, string> = {};
  for (const file of fromBinary(FileDescriptorSetSchema, image).file) {
    if (file.package === "berth.v1") collect(file, comments);
  }
  return Object.fromEntries(Object.entries(comments).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function collect(file: FileDescriptorProto, into: Record<string, string>): void {
  for (const { path, leadingComments } of file.sourceCodeInfo?.location ?? []) {
    const name = nameAt(file, path);
    const text = leadingComments.trim().replaceAll(/\n */g, " ");
    if (name !== undefined && text !== "") into[`${file.package}.${name}`] = text;
  }
}

function nameAt(file: FileDescriptorProto, path: readonly number[]): string | undefined {
  const [kind, index, ...rest] = path;
  if (kind === SERVICE) {
    const service = file.service[index!];
    if (rest.length === 0) return service?.name;
    return rest.length === 2 && rest[0] === METHOD ? `${service?.name}.${service?.method[rest[1]!]?.name}` : undefined;
  }
  return kind === MESSAGE ? nameIn(file.messageType[index!], rest) : undefined;
}

function nameIn(message: DescriptorProto | undefined, path: readonly number[]): string | undefined {
  if (message === undefined) return undefined;
  const [kind, index, ...rest] = path;
  if (kind === undefined) return message.name;
  if (kind === FIELD && rest.length === 0) return `${message.name}.${message.field[index!]?.name}`;
  if (kind !== NESTED) return undefined;
  const nested = nameIn(message.nestedType[index!], rest);
  return nested === undefined ? undefined : `${message.name}.${nested}`;
}

export function commentsSource(comments: Readonly<Record<string, string>>): string {
  return [
    "// Generated from the comments of proto/berth/v1 by libs/rpc/src/generate.ts (npm run gen).",
    `export const COMMENTS: Readonly<Record<string, string>> = ${JSON.stringify(comments, null, 2)};`,
    "",
  ].join("\n");
}

function put(file: string, text: string, check: boolean): void {
  if (check) {
    if (read(file) !== text)
      throw new Error(`${file} is not what proto/ says: run \`npm run gen\` and commit the result`);
    return;
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

async function main(check: boolean): Promise<void> {
  put(COMMENTS_FILE, commentsSource(readComments()), check);
  // Imported after the comments are written: the schema is made of them.
  const { manifestSchema } = await import("./json-schema.ts");
  put(SCHEMA_FILE, `${JSON.stringify(manifestSchema(), null, 2)}\n`, check);
}

if (import.meta.main) await main(process.argv.includes("--check"));
