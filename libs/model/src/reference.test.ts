import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf, StatusError } from "@berth/base";
import * as fc from "fast-check";
import { formatImageReference, normaliseImage, parseImageReference, type ImageReference } from "./reference.ts";

const digest = digestOf("x");

test("normaliseImage fills in registry, library and latest as Docker does", () => {
  const cases: [string, string][] = [
    ["busybox", "docker.io/library/busybox:latest"],
    ["busybox:1.36", "docker.io/library/busybox:1.36"],
    ["team/app", "docker.io/team/app:latest"],
    ["index.docker.io/busybox", "docker.io/library/busybox:latest"],
    ["localhost/app", "localhost/app:latest"],
    ["localhost:5000/app:v1", "localhost:5000/app:v1"],
    ["10.0.0.1:5000/a/b/c", "10.0.0.1:5000/a/b/c:latest"],
    ["[::1]:5000/app", "[::1]:5000/app:latest"],
    [`quay.io/app@${digest}`, `quay.io/app@${digest}`],
    [`quay.io/app:v1@${digest}`, `quay.io/app:v1@${digest}`],
    ["a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g:latest"],
  ];
  for (const [given, expected] of cases) assert.equal(normaliseImage(given), expected, given);
});

test("parseImageReference refuses what no registry takes, and says which part", () => {
  const cases: [string, RegExp][] = [
    ["", /is empty/],
    ["App", /upper-case/],
    ["host.example/App", /upper-case/],
    ["app:", /tag ""/],
    ["app:a b", /tag/],
    [`app:${"x".repeat(129)}`, /tag/],
    ["app@sha256:abc", /not a digest/],
    ["app@", /not a digest/],
    ["a//b", /repository part ""/],
    ["host.example/", /repository part ""/],
    ["../etc", /repository part|registry/],
    ["a/../b", /repository part "\.\."/],
    ["-host.example/a", /registry/],
    ["host.example:port/a", /registry/],
    [`a/${"b".repeat(256)}`, /longer than/],
    ["a\nb", /repository part/],
  ];
  for (const [given, message] of cases) {
    assert.throws(
      () => parseImageReference(given),
      (error: unknown) => {
        assert.ok(error instanceof StatusError);
        assert.equal(error.reason, "IMAGE_REFERENCE_INVALID");
        assert.match(error.message, message);
        return true;
      },
      given,
    );
  }
});

const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
const component = fc
  .tuple(word, fc.array(fc.tuple(fc.constantFrom(".", "_", "__", "-", "--"), word), { maxLength: 2 }))
  .map(([first, more]) => first + more.map(([joint, next]) => joint + next).join(""));
const registry = fc.oneof(
  fc.constantFrom("docker.io", "localhost", "10.1.2.3:5000", "[fe80::1]:443"),
  fc
    .tuple(word, word, fc.option(fc.integer({ min: 1, max: 65_535 })))
    .map(([a, b, port]) => `${a}.${b}${port === null ? "" : `:${port}`}`),
);
const reference: fc.Arbitrary<ImageReference> = fc
  .record({
    registry,
    path: fc.array(component, { minLength: 1, maxLength: 4 }),
    tag: fc.option(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/), { nil: undefined }),
    digest: fc.option(fc.string().map(digestOf), { nil: undefined }),
  })
  .map(({ registry, path, tag, digest }) => ({
    registry,
    repository: registry === "docker.io" && path.length === 1 ? `library/${path[0]}` : path.join("/"),
    tag: tag ?? (digest === undefined ? "latest" : undefined),
    digest,
  }));

test("parseImageReference gives back what formatImageReference wrote", () => {
  fc.assert(fc.property(reference, (ref) => assert.deepEqual(parseImageReference(formatImageReference(ref)), ref)));
});

test("normaliseImage is idempotent, and any text is either a reference or IMAGE_REFERENCE_INVALID", () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[a-z./:@_-]{1,30}$/));
  fc.assert(
    fc.property(text, (given) => {
      let once: string;
      try {
        once = normaliseImage(given);
      } catch (error) {
        assert.ok(error instanceof StatusError && error.reason === "IMAGE_REFERENCE_INVALID", String(error));
        return;
      }
      assert.equal(normaliseImage(once), once);
    }),
    { numRuns: 1000 },
  );
});
