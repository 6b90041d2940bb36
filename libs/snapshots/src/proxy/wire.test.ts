/** Our definitions of containerd's messages against containerd's own, where Debian's package of them is installed. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import type { DescField, DescMessage } from "@bufbuild/protobuf";
import {
  file_containerd_services_snapshots_v1_snapshots as ours,
  MountSchema,
  Snapshots,
} from "@berth/proto/containerd";

const API = "/usr/share/gocode/src/github.com/containerd/containerd/api";
const skip = existsSync(API) ? false : "needs golang-github-containerd-containerd-dev";

/** Newer than what Debian 12 has (1.6.20). */
const LATER = new Set(["CommitSnapshotRequest.parent"]);

/** `Message.field` → `number type`, of the flat messages that these files have. */
function theirs(file: string): Record<string, string> {
  const text = readFileSync(`${API}/${file}`, "utf8").replaceAll(/\/\/.*/g, "");
  const fields: Record<string, string> = {};
  for (const [, message, body = ""] of text.matchAll(/message (\w+)\s*\{([^}]*)\}/g)) {
    const field = /(repeated\s+)?(map<\s*\w+,\s*\w+\s*>|[\w.]+)\s+(\w+)\s*=\s*(\d+)/g;
    for (const [, repeated, type = "", name, number] of body.matchAll(field)) {
      fields[`${message}.${name}`] = `${number} ${repeated ? "repeated " : ""}${type.replaceAll(/\s/g, "")}`;
    }
  }
  return fields;
}

function typeOf(field: DescField, message: DescMessage): string {
  const short = (name: string): string =>
    name.startsWith(`${message.file.proto.package}.`) ? name.split(".").at(-1)! : name;
  const scalar = { 3: "int64", 9: "string" } as Record<number, string>;
  switch (field.fieldKind) {
    case "map":
      return "map<string,string>";
    case "list":
      return `repeated ${field.listKind === "message" ? short(field.message.typeName) : scalar[field.scalar ?? 0]}`;
    case "message":
      return short(field.message.typeName);
    case "enum":
      return short(field.enum.typeName);
    case "scalar":
      return scalar[field.scalar] ?? String(field.scalar);
  }
}

function described(messages: readonly DescMessage[]): Record<string, string> {
  const fields = messages.flatMap((message) =>
    message.fields.map(
      (field) => [`${message.name}.${field.name}`, `${field.number} ${typeOf(field, message)}`] as const,
    ),
  );
  return Object.fromEntries(fields.filter(([name]) => !LATER.has(name)));
}

test("snapshots.v1 has containerd's fields, numbers, types and methods", { skip }, () => {
  const file = "services/snapshots/v1/snapshots.proto";
  const expected = theirs(file);
  assert.ok(Object.keys(expected).length > 30);
  assert.deepEqual(described(ours.messages), expected);
  assert.deepEqual(described([MountSchema]), theirs("types/mount.proto"));
  const methods = [
    ...readFileSync(`${API}/${file}`, "utf8").matchAll(/rpc (\w+)\((\w+)\) returns \((stream )?([\w.]+)\)/g),
  ];
  assert.deepEqual(
    Snapshots.methods.map(({ name, input, output, methodKind }) => [
      name,
      input.name,
      methodKind === "server_streaming",
      output.name,
    ]),
    methods.map(([, name, input, stream, output]) => [name, input, stream !== undefined, output?.split(".").at(-1)]),
  );
});
