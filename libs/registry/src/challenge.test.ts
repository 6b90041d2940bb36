import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { parseChallenges } from "./challenge.ts";

const plain = (header: string | string[]) =>
  parseChallenges(header).map((c) => ({ scheme: c.scheme, ...Object.fromEntries(c.params) }));

test("parseChallenges reads what registries send", () => {
  const bearer =
    'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"';
  assert.deepEqual(plain(bearer), [
    {
      scheme: "bearer",
      realm: "https://auth.example/token",
      service: "registry.example",
      scope: "repository:a/b:pull,push",
    },
  ]);
  assert.deepEqual(plain('Basic realm="x"'), [{ scheme: "basic", realm: "x" }]);
  assert.deepEqual(plain("BASIC"), [{ scheme: "basic" }]);
});

test("parseChallenges reads several challenges, in one header or in many", () => {
  const expected = [
    { scheme: "bearer", realm: "r", error: "invalid_token" },
    { scheme: "basic", realm: 'quo"te' },
  ];
  assert.deepEqual(plain(String.raw`Bearer realm=r , error="invalid_token", Basic Realm="quo\"te"`), expected);
  assert.deepEqual(plain(["Bearer realm=r, error=invalid_token", String.raw`Basic realm="quo\"te"`]), expected);
});

test("parseChallenges never throws and always ends", () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[Bb"=,\\ a]{0,40}$/));
  fc.assert(fc.property(text, (header) => void parseChallenges(header)));
  assert.deepEqual(parseChallenges(undefined), []);
  assert.deepEqual(parseChallenges("a".repeat(10_000)), []);
});
