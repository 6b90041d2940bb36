import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatFieldPath, parseDocuments, parseFieldPath, placeViolations } from "./document.ts";

const TEXT = `apiVersion: berth/v1
kind: Workload
spec:
  container:
    env:
      - name: A
      - nme: B
---
kind: Second
`;

void test("parseDocuments finds every document and where its fields stand", () => {
  const [first, second, ...rest] = parseDocuments("web.yaml", TEXT);
  assert.equal(rest.length, 0);
  assert.equal(first!.locate(["spec", "container", "env", 1, "nme"]), "web.yaml:7:9");
  assert.equal(second!.locate(["kind"]), "web.yaml:9:1");
});

void test("parseDocuments locates a missing field at the nearest thing around it", () => {
  const [first] = parseDocuments("web.yaml", TEXT);
  assert.equal(first!.locate(["spec", "container", "image"]), "web.yaml:4:3");
});

void test("parseDocuments names file, line and column of broken YAML", () => {
  assert.throws(() => parseDocuments("x.yaml", "a: [1\nb: 2\n"), {
    reason: "MANIFEST_SYNTAX",
    message: /^x\.yaml:2:\d+: /,
  });
  assert.throws(() => parseDocuments("x.yaml", "a: 1\na: 2\n"), { reason: "MANIFEST_SYNTAX", message: /x\.yaml:2:1/ });
});

void test("parseDocuments takes JSON and ignores empty documents", () => {
  assert.deepEqual(parseDocuments("-", '{"kind":"X"}')[0]!.value, { kind: "X" });
  assert.equal(parseDocuments("-", "---\n---\n").length, 0);
});

void test("parseFieldPath reads what formatFieldPath writes", () => {
  const step = fc.oneof(
    fc.nat(1000),
    fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9]{0,8}$/),
    fc.constantFrom("a.b/c", "app.kubernetes.io/name"),
  );
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1 }).filter(([first]) => typeof first === "string"),
      (path) => {
        assert.deepEqual(parseFieldPath(formatFieldPath(path)), path);
      },
    ),
  );
});

void test("placeViolations puts the place in front of the field", () => {
  const [first] = parseDocuments("web.yaml", TEXT);
  const [placed] = placeViolations(first!, [{ field: "spec.container.env[0].name", description: "x" }]);
  assert.equal(placed!.field, "web.yaml:6:9: spec.container.env[0].name");
});
