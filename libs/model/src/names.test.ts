import assert from "node:assert/strict";
import { test } from "node:test";
import { closest, suggest } from "./closest.ts";
import { FORMATS } from "./formats.ts";
import {
  envNameProblem,
  labelKeyProblem,
  nameProblem,
  nodeNameProblem,
  normaliseCapability,
  pathProblem,
  signalNumber,
} from "./names.ts";

test("nameProblem takes RFC 1123 labels and says how to mend others", () => {
  for (const good of ["a", "web", "web-1", "0", "a".repeat(63)]) assert.equal(nameProblem(good), undefined, good);
  for (const bad of ["", "-a", "a-", "a.b", "a_b", "a".repeat(64), "ä"])
    assert.notEqual(nameProblem(bad), undefined, bad);
  assert.match(nameProblem("Web")!, /upper-case letters; write "web"/);
});

test("nodeNameProblem refuses dots, which would split a subject", () => {
  assert.equal(nodeNameProblem("node-a"), undefined);
  assert.match(nodeNameProblem("host.example.com")!, /short host name, such as "host"/);
});

test("labelKeyProblem, envNameProblem and pathProblem judge", () => {
  for (const good of ["a", "example.com/a.b_c-d", "A1"]) assert.equal(labelKeyProblem(good), undefined, good);
  for (const bad of ["", "/a", "a/", "A.com/x", "a/b/c", "-a"]) assert.notEqual(labelKeyProblem(bad), undefined, bad);
  assert.equal(envNameProblem("_PATH1"), undefined);
  for (const bad of ["", "1A", "A=B", "A B"]) assert.notEqual(envNameProblem(bad), undefined, bad);
  assert.equal(pathProblem("/data/..x"), undefined);
  for (const bad of ["", "data", "/a/../b", "/a\0"]) assert.notEqual(pathProblem(bad), undefined, bad);
});

test("signalNumber knows names, numbers and real-time signals", () => {
  const cases = {
    SIGTERM: 15,
    term: 15,
    "9": 9,
    SIGKILL: 9,
    SIGSYS: 31,
    SIGUSR2: 12,
    "SIGRTMIN+3": 37,
    RTMAX: 64,
    SIGPOLL: 29,
  };
  for (const [text, number] of Object.entries(cases)) assert.equal(signalNumber(text), number, text);
  for (const bad of ["", "0", "65", "SIGFOO", "RTMAX+1", "constructor"])
    assert.equal(signalNumber(bad), undefined, bad);
});

test("normaliseCapability completes the name", () => {
  assert.equal(normaliseCapability("net_admin"), "CAP_NET_ADMIN");
  assert.equal(normaliseCapability("CAP_CHOWN"), "CAP_CHOWN");
  assert.equal(normaliseCapability("all"), "ALL");
  assert.equal(normaliseCapability("NET_ADMN"), undefined);
});

test("closest finds typing errors and nothing else", () => {
  const fields = ["replicas", "everyNode", "container", "placement"];
  assert.equal(closest("replcas", fields), "replicas");
  assert.equal(closest("erveyNode", fields), "everyNode");
  assert.equal(closest("Container", fields), "container");
  assert.equal(closest("zzz", fields), undefined);
  assert.equal(suggest("zzz", fields), "; known: replicas, everyNode, container, placement");
});

test("FORMATS name the value and the way out", () => {
  assert.equal(FORMATS["name"]!("Web"), '"Web" has upper-case letters; write "web"');
  assert.match(FORMATS["capability"]!("NET_ADMN")!, /did you mean "CAP_NET_ADMIN"/);
  assert.match(FORMATS["signal"]!("SIGTREM")!, /did you mean "SIGTERM"/);
  assert.match(FORMATS["image"]!("Foo")!, /upper-case/);
  assert.match(FORMATS["quantity-memory"]!("64MB")!, /write 64Mi/);
  assert.match(FORMATS["quantity-disk"]!("0")!, /less than 1Mi/);
  assert.equal(FORMATS["selector"]!("a in (b,c)"), undefined);
});
