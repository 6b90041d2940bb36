import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { anyFilterMatches, filterMatches, parseFilter } from "./filter.ts";

const event: Readonly<Record<string, string>> = {
  namespace: "shop",
  topic: "/tasks/exit",
  name: "web-0",
  "event.a.b": "x,y",
};
const fieldOf = (path: readonly string[]): string | undefined => event[path.join(".")];

function holds(text: string): boolean {
  return filterMatches(parseFilter(text), fieldOf);
}

test("parseFilter reads presence, equality, inequality and patterns", () => {
  for (const yes of [
    "namespace",
    "namespace==shop",
    "namespace == shop",
    'topic=="/tasks/exit",name!=web-1',
    "topic~=/^\\/tasks\\//",
    "topic~=|^/tasks/|",
    'topic~="^/tasks/(exit|oom)$"',
    'event."a.b"=="x,y"',
    "absent!=anything",
    "",
  ]) {
    assert.ok(holds(yes), yes);
  }
  for (const no of ["absent", "namespace==web", "namespace==shop,name==other", "absent~=.*", "topic~=^exit"]) {
    assert.ok(!holds(no), no);
  }
});

test("parseFilter follows containerd's quoting rule and says what to write", () => {
  assert.throws(() => parseFilter("topic==/tasks/exit"), {
    code: "INVALID_ARGUMENT",
    reason: "FILTER_INVALID",
    message: /quote it: topic=="\/tasks\/exit"/,
  });
});

test("parseFilter refuses what the grammar does not have", () => {
  for (const bad of [
    "=",
    "a=b",
    "a==",
    "a==b,",
    ",a",
    "a==b c",
    'a=="b',
    "a.",
    "a==!b",
    'a=="\\q"',
    "a~=(",
    "a b",
    "å==b",
  ]) {
    assert.throws(() => parseFilter(bad), { reason: "FILTER_INVALID" }, bad);
  }
  assert.throws(() => parseFilter("a=b"), /has "=" where "==" must stand/);
});

test("parseFilter refuses patterns that could hang the matcher", () => {
  for (const bad of ["(a+)+$", "(a|a)*$", "((a*)b)*", "(a)\\1", "(?=a)a", "(a+){2,}", "([a-z]+)*x"]) {
    assert.throws(() => parseFilter(`name~="${bad.replaceAll("\\", "\\\\")}"`), { reason: "FILTER_INVALID" }, bad);
  }
  for (const good of ["(web|api)-[0-9]+$", "[(+)]+", "(ab)+", "a{2}(b)?", "\\(a+\\)"]) {
    assert.ok(parseFilter(`name~="${good.replaceAll("\\", "\\\\")}"`), good);
  }
});

test("anyFilterMatches needs one of several, and nothing of none", () => {
  assert.ok(anyFilterMatches([], fieldOf));
  assert.ok(anyFilterMatches([parseFilter("absent"), parseFilter("name")], fieldOf));
  assert.ok(!anyFilterMatches([parseFilter("absent")], fieldOf));
});

test("parseFilter takes every value when quoted, and ends for any text", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), (value) => {
      const quoted = `name=="${value.replaceAll(/["\\]/g, "\\$&").replaceAll("\n", "\\n")}"`;
      assert.equal(parseFilter(quoted)[0]!.test!.value, value);
      try {
        parseFilter(value);
      } catch (error) {
        assert.equal((error as { reason: string }).reason, "FILTER_INVALID");
      }
    }),
  );
});
