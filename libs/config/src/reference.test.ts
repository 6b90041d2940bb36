import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { z } from "zod";
import { AGENT_REFERENCE, agentReference } from "./reference-document.ts";
import { referenceTable } from "./reference.ts";

test("docs/reference/agent-configuration.md is what the schema says", () => {
  const again = "run node libs/config/src/reference-document.ts and commit the result";
  assert.equal(readFileSync(AGENT_REFERENCE, "utf8"), agentReference(), again);
});

test("referenceTable tells type, default, variable and meaning of every field, within records and lists too", () => {
  const inner = z.strictObject({ port: z.int().min(1).max(9).default(5).describe("Its port.") });
  const schema = z.strictObject({
    url: z.string().describe("Where."),
    hosts: z.record(z.string(), inner).default({}).meta({ description: "All.", key: "host" }),
    list: z.array(inner).describe("More."),
  });
  const table = referenceTable(schema, [{ variable: "URL", path: ["url"] }]);
  assert.deepEqual(table.split("\n").slice(2), [
    "| `url` (`URL`) | text | required | Where. |",
    "| `hosts` | fields by host | `{}` | All. |",
    "| `hosts.<host>.port` | whole number from 1 to 9 | `5` | Its port. |",
    "| `list` | list of fields | required | More. |",
    "| `list[].port` | whole number from 1 to 9 | `5` | Its port. |",
  ]);
  assert.throws(() => referenceTable(z.strictObject({ a: z.string() }), []), /the field a does not say what it means/);
});
