import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import * as proto from "@berth/proto";
import type { DescMessage, DescService } from "@bufbuild/protobuf";
import { COMMENTS_FILE, commentsSource, readComments, SCHEMA_FILE } from "./generate.ts";
import { routesOf } from "./http/routes.ts";
import { checkJsonShape } from "./json-shape.ts";
import { manifestSchema, type JsonSchema } from "./json-schema.ts";
import { openApiDocument } from "./openapi.ts";
import { unknownFormats } from "./validate.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const services = Object.values(proto).filter(
  (value) => "kind" in value && (value.kind as string) === "service",
) as unknown as DescService[];
const messages = Object.values(proto).filter(
  (value) => "kind" in value && (value.kind as string) === "message",
) as unknown as DescMessage[];

process.env["PATH"] = `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"]}`;
process.env["BUF_CACHE_DIR"] = join(ROOT, "node_modules/.cache/buf");

test("gen/comments.ts and berth.schema.json are what the proto files say", () => {
  assert.equal(readFileSync(COMMENTS_FILE, "utf8"), commentsSource(readComments()));
  assert.equal(readFileSync(SCHEMA_FILE, "utf8"), `${JSON.stringify(manifestSchema(), null, 2)}\n`);
});

test("libs/proto's generated code has every file of proto/berth/v1", () => {
  const files = execFileSync("buf", ["ls-files"], { cwd: join(ROOT, "proto"), encoding: "utf8" })
    .trim()
    .split("\n");
  assert.ok(files.length >= 10);
  const fleet = files.filter((file) => /(^|\/)berth\/v1\//.test(file));
  const declared = fleet.flatMap(
    (file) => readFileSync(join(ROOT, "proto", file), "utf8").match(/^service \w+/gm) ?? [],
  );
  assert.ok(declared.length >= 13);
  assert.equal(services.length, declared.length);
});

test("every format that a rule names is known, and stands on text", () => {
  assert.ok(messages.length > 60);
  assert.deepEqual(messages.flatMap(unknownFormats), []);
});

test("every method is reached by HTTP, but for those of two directions, and no two by the same way", () => {
  const routes = routesOf(services);
  const methods = services
    .flatMap(({ methods: all }) => all)
    .filter(({ methodKind }) => methodKind !== "bidi_streaming");
  assert.deepEqual(routes.map(({ rpc }) => rpc.name).sort(), methods.map(({ name }) => name).sort());
  const ways = routes.map(({ binding, segments, verb }) =>
    [binding.method, ...segments.map((segment) => ("word" in segment ? segment.word : "*")), verb].join("/"),
  );
  assert.equal(new Set(ways).size, ways.length);
});

/** Every `$ref` in a document. */
function refsOf(node: unknown): string[] {
  if (typeof node !== "object" || node === null) return [];
  return Object.entries(node).flatMap(([key, value]) =>
    key === "$ref" && typeof value === "string" ? [value] : refsOf(value),
  );
}

function resolves(document: JsonSchema, ref: string): boolean {
  let node: unknown = document;
  for (const part of ref.slice(2).split("/")) node = (node as JsonSchema | undefined)?.[part];
  return node !== undefined;
}

test("openApiDocument describes every route, and all its references resolve", () => {
  const document = openApiDocument(services, { version: "1", open: [proto.HealthService.method.getHealth] });
  assert.equal(document["openapi"], "3.1.0");
  const paths = document["paths"] as Record<string, Record<string, JsonSchema>>;
  const ids = new Set<string>();
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      assert.ok(["get", "put", "post", "delete"].includes(method));
      ids.add(operation["operationId"] as string);
      const parameters = operation["parameters"] as { name: string; in: string; schema: unknown }[];
      const inTemplate = [...path.matchAll(/\{([^}]+)\}/g)].map((match) => match[1]);
      assert.deepEqual(
        parameters.filter((p) => p.in === "path").map((p) => p.name),
        inTemplate,
        path,
      );
      for (const parameter of parameters) assert.ok(parameter.schema, `${path} ${parameter.name}`);
      const responses = operation["responses"] as JsonSchema;
      assert.ok(responses["200"] && responses["default"]);
    }
  }
  assert.equal(ids.size, routesOf(services).length);
  const refs = refsOf(document);
  assert.ok(refs.length > 30);
  assert.deepEqual(
    refs.filter((ref) => !resolves(document, ref)),
    [],
  );
  assert.deepEqual(paths["/v1/health"]!["get"]!["security"], []);
});

test("manifestSchema knows the kinds, refuses unknown properties and leaves out what the controller sets", () => {
  const schema = manifestSchema();
  assert.deepEqual(
    refsOf(schema).filter((ref) => !resolves(schema, ref)),
    [],
  );
  const defs = schema["$defs"] as Record<
    string,
    { properties: Record<string, JsonSchema>; required?: string[] } & JsonSchema
  >;
  for (const [name, definition] of Object.entries(defs)) assert.equal(definition["additionalProperties"], false, name);
  assert.deepEqual(Object.keys(defs["Workload"]!.properties), ["apiVersion", "kind", "metadata", "spec"]);
  assert.deepEqual(Object.keys(defs["Metadata"]!.properties), ["name", "namespace", "labels", "resourceVersion"]);
  assert.match(defs["WorkloadSpec"]!.properties["replicas"]!["description"] as string, /How many tasks/);
  assert.deepEqual(defs["Restart"]!.properties["policy"]!["enum"], ["", "always", "onFailure", "never"]);
});

test("checkJsonShape takes what protobuf's mapping takes", () => {
  const spec = {
    replicas: "3",
    every_node: false,
    container: { image: "a", stop: { grace: "1.5s" }, resources: { pids: "9" }, env: null },
    rollout: { maxUnavailable: 1 },
  };
  assert.deepEqual(checkJsonShape(proto.WorkloadSchema, { metadata: { labels: { a: "b" } }, spec }), []);
  const wrong = checkJsonShape(proto.WorkloadSchema, {
    metadata: { labels: { a: 1 }, createdAt: "yesterday" },
    spec: { replicas: 2 ** 40, container: { stop: { grace: "1m" }, env: [null] } },
  });
  assert.deepEqual(
    wrong.map(({ field }) => field),
    [
      'metadata.labels["a"]',
      "metadata.createdAt",
      "spec.replicas",
      "spec.container.stop.grace",
      "spec.container.env[0]",
    ],
  );
});
