import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary, type DescMessage, type Message } from "@bufbuild/protobuf";
import {
  CopyInRequestSchema,
  CopyOutResponseSchema,
  ExecResponseSchema,
  LogsResponseSchema,
  TaskSchema,
} from "@berth/proto";
import { encodeMessage } from "./encode.ts";

const data = Buffer.alloc(40_000, "bulk");

test("encodeMessage writes what the general encoder writes, of bulk and of anything else", () => {
  const messages: readonly (readonly [DescMessage, Message])[] = [
    [CopyOutResponseSchema, create(CopyOutResponseSchema, { data })],
    [CopyOutResponseSchema, create(CopyOutResponseSchema, { data: data.subarray(0, 3) })],
    [CopyOutResponseSchema, create(CopyOutResponseSchema)],
    [CopyInRequestSchema, create(CopyInRequestSchema, { message: { case: "data", value: data } })],
    [CopyInRequestSchema, create(CopyInRequestSchema, { message: { case: "finished", value: true } })],
    [ExecResponseSchema, create(ExecResponseSchema, { message: { case: "stderr", value: data } })],
    [ExecResponseSchema, create(ExecResponseSchema, { message: { case: "exitCode", value: 3 } })],
    [ExecResponseSchema, create(ExecResponseSchema)],
    [LogsResponseSchema, create(LogsResponseSchema, { stream: "stdout", data })],
    [TaskSchema, create(TaskSchema, { metadata: { name: "web" } })],
  ];
  for (const [schema, message] of messages) {
    assert.ok(encodeMessage(schema, message).equals(toBinary(schema, message)), schema.typeName);
  }
});
