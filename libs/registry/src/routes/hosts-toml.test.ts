import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import * as fc from "fast-check";
import { stringify } from "smol-toml";
import { createTestAuthority, missingOpenssl } from "../testing/certificates.ts";
import { endpointsOf } from "./endpoint.ts";
import { parseGoDuration } from "./go-duration.ts";
import { parseHostsToml } from "./hosts-toml.ts";
import type { RegistryRoute } from "./route.ts";
import { validateRoute } from "./validate.ts";

const file = "/certs.d/reg.example/hosts.toml";

function parse(text: string, files: Record<string, string> = {}): RegistryRoute {
  const read = (path: string): string => {
    if (Object.hasOwn(files, path)) return files[path]!;
    throw Object.assign(new Error(`ENOENT: no such file, open '${path}'`), { code: "ENOENT" });
  };
  return parseHostsToml("reg.example", { file, text, read });
}

test("parseHostsToml reads every field, hosts in the order of the file", { skip: missingOpenssl() }, () => {
  const { cert, key } = createTestAuthority();
  const files = { "/certs.d/reg.example/ca.pem": cert, "/abs/both.pem": cert + key, "/certs.d/reg.example/k": key };
  const route = parse(
    `# a comment
server = 'https://origin.example:444'
skip_verify = true
dial_timeout = "1m30s"

[host."https://b.example"]
  capabilities = ["pull", "Resolve"] # mirrors may resolve
  ca = "ca.pem"
  client = [["ca.pem", "k"], ["/abs/both.pem", "/abs/both.pem"]]
  dial_timeout = "250ms"
  [host."https://b.example".header]
    x-one = "1"
    x-two = ["2", """3"""]

[host."http://a.example/v2/hub"]
  override_path = true
  ca = ["ca.pem", "/abs/both.pem"]
  client = "/abs/both.pem"
[host."c.example/deep"]
  capabilities = ['push', 'referrers']
`,
    files,
  );
  assert.deepEqual(validateRoute(route), []);
  assert.deepEqual(
    route.endpoints.map(({ url }) => url),
    ["https://b.example", "http://a.example/v2/hub", "https://c.example/deep"],
  );
  const [b, a, c, origin] = endpointsOf("reg.example", route, () => undefined);
  assert.deepEqual(b!.capabilities, ["pull", "resolve"]);
  assert.deepEqual(b!.client, [
    { cert, key },
    { cert: cert + key, key: cert + key },
  ]);
  assert.deepEqual(b!.headers, { "x-one": "1", "x-two": ["2", "3"] });
  assert.equal(b!.dialTimeoutMs, 250);
  assert.deepEqual([a!.origin, a!.apiRoot, a!.ca.length, a!.skipVerify], ["http://a.example", "/v2/hub", 2, false]);
  assert.deepEqual([c!.apiRoot, c!.capabilities], ["/deep/v2", ["push", "referrers"]]);
  assert.deepEqual([origin!.origin, origin!.isOrigin, origin!.skipVerify], ["https://origin.example:444", true, true]);
  assert.equal(origin!.dialTimeoutMs, 90_000);
});

test("parseHostsToml without server leads to the registry under its own name, and fallback can be switched off", () => {
  const text = `[host."https://m.example"]\n`;
  const own = endpointsOf("reg.example", parse(text), () => ({ host: "reg.example", plainHttp: true }));
  assert.deepEqual(
    own.map(({ origin }) => origin),
    ["https://m.example", "http://reg.example"],
  );
  const off = endpointsOf("reg.example", parse(`fallback_to_origin = false\n${text}`), () => undefined);
  assert.deepEqual(
    off.map(({ origin }) => origin),
    ["https://m.example"],
  );
});

test("parseHostsToml names file, line and field of whatever is wrong", () => {
  const cases: [string, RegExp][] = [
    [`server = "https://a\n`, /hosts\.toml:1: is not TOML/],
    [`server = "https://a"\nserver = "https://b"`, /hosts\.toml:2: is not TOML/],
    [`\n\nsevrer = "https://a"`, /hosts\.toml:3: sevrer: is not a field; there are capabilities, ca,/],
    [`[host."https://m"]\n\ncapabilitis = []`, /hosts\.toml:3: host\."https:\/\/m"\.capabilitis: is not a field/],
    [
      `[host."https://m"]\n[host."https://n"]\ncapabilities = ["fly"]`,
      /:3: host\."https:\/\/n"\.capabilities: "fly" is not one of/,
    ],
    [
      `[host."https://m"]\nca = "none.pem"`,
      /:2: .*\.ca: cannot be read: .*ENOENT.*\/certs\.d\/reg\.example\/none\.pem/,
    ],
    [`ca = 3`, /:1: ca: is not a file's name/],
    [`[host."https://m"]\nclient = [["a"]]`, /:2: .*\.client: has an entry that is no file/],
    [`[host."https://m"]\nskip_verify = "yes"`, /:2: .*\.skip_verify: is not true or false/],
    [`[host."https://m"]\ndial_timeout = "soon"`, /:2: .*dial_timeout: is not a duration/],
    [`[host."https://m"]\ndial_timeout = 30`, /:2: .*dial_timeout: is not a string/],
    [`[host."https://m".header]\nhost = "x"`, /:2: .*\.header\.host: is set by the client itself/],
    [`[host."https://m".header]\nx = "a\\r\\nb: c"`, /:2: .*\.header\.x: has characters/],
    [`[host."ftp://m"]`, /:1: host\."ftp:\/\/m": is not a host or an http\(s\) URL/],
    [`[host."https://u:p@m"]`, /:1: .*: has credentials in it/],
    [`host = ["https://m"]`, /:1: host: is not a table/],
    [`[host."5000"]`, /:1: host\.5000: is not a host/],
    [`fallback_to_origin = false`, /:1: fallback_to_origin: is false without any host/],
  ];
  for (const [text, message] of cases) {
    assert.throws(
      () => parse(text),
      (error: unknown) => {
        assert.ok(error instanceof StatusError);
        assert.equal(error.reason, "REGISTRY_CONFIG_INVALID");
        assert.match(error.message, message);
        return true;
      },
      text,
    );
  }
});

const host = fc
  .tuple(
    fc.constantFrom("https://", "http://", ""),
    fc.stringMatching(/^[a-z]{1,8}\.example$/),
    fc.option(fc.integer({ min: 1, max: 65_000 })),
  )
  .map(([scheme, name, port]) => `${scheme}${name}${port === null ? "" : `:${port}`}`);
const fields = fc.record(
  {
    capabilities: fc.array(fc.constantFrom("pull", "resolve", "push", "referrers"), { minLength: 1, maxLength: 4 }),
    skip_verify: fc.boolean(),
    override_path: fc.boolean(),
    dial_timeout: fc.integer({ min: 1, max: 999 }).map((seconds) => `${seconds}s`),
    header: fc.dictionary(
      fc.stringMatching(/^x-[a-z]{1,6}$/),
      fc.array(fc.stringMatching(/^[ -~]*$/), { minLength: 1 }),
    ),
  },
  { requiredKeys: [] },
);

test("parseHostsToml gives back what was written, in its order", () => {
  const hosts = fc.uniqueArray(fc.tuple(host, fields), { maxLength: 6, selector: ([name]) => name });
  fc.assert(
    fc.property(hosts, fields, (given, root) => {
      const route = parse(stringify({ ...root, host: Object.fromEntries(given) }));
      assert.equal(route.endpoints.length, given.length);
      for (const [
        index,
        [name, { capabilities, skip_verify, override_path, dial_timeout, header }],
      ] of given.entries()) {
        const endpoint = route.endpoints[index]!;
        assert.equal(endpoint.url, name.startsWith("http") ? name : `https://${name}`);
        assert.deepEqual(endpoint.capabilities, capabilities ?? ["pull", "resolve", "push", "referrers"]);
        assert.equal(endpoint.skipVerify, skip_verify ?? false);
        assert.equal(endpoint.overridePath, override_path ?? false);
        assert.equal(
          endpoint.dialTimeoutMs,
          dial_timeout === undefined ? undefined : Number.parseInt(dial_timeout) * 1000,
        );
        assert.deepEqual({ ...endpoint.headers }, { ...header });
      }
      assert.deepEqual(validateRoute(structuredClone(route)), []);
    }),
  );
});

test("parseHostsToml takes any text as a route or as REGISTRY_CONFIG_INVALID", () => {
  const word = fc.constantFrom(
    "[",
    "]",
    '"',
    "'",
    "=",
    "host",
    ".",
    "\n",
    "ca",
    "server",
    "#",
    "true",
    "{",
    "}",
    ",",
    "1",
    "https://a",
    "header",
    "__proto__",
    " ",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(word, { maxLength: 30 }).map((words) => words.join("")),
  );
  fc.assert(
    fc.property(text, (given) => {
      try {
        assert.deepEqual(validateRoute(parse(given)), []);
      } catch (error) {
        assert.ok(error instanceof StatusError && error.reason === "REGISTRY_CONFIG_INVALID", String(error));
        assert.match(error.message, /hosts\.toml:\d+: /);
      }
    }),
    { numRuns: 3000 },
  );
});

test("parseGoDuration reads what Go writes", () => {
  const cases: [string, number | undefined][] = [
    ["30s", 30_000],
    ["1h2m3.5s", 3_723_500],
    ["250ms", 250],
    ["1.5us", 0.0015],
    ["0", 0],
    ["", undefined],
    ["30", undefined],
    ["-1s", undefined],
    ["1s ", undefined],
    ["s", undefined],
  ];
  for (const [text, ms] of cases) assert.equal(parseGoDuration(text), ms, text);
});

test("validateRoute names every wrong field", () => {
  const wrong = {
    registry: "not a host",
    endpoints: [
      {
        url: "ftp://x",
        capabilities: ["fly"],
        ca: ["none"],
        client: [{}],
        headers: { "a b": ["x"] },
        dialTimeoutMs: 0,
        color: 1,
      },
    ],
    origin: { url: "https://x/?q" },
    fallbackToOrigin: "no",
    budgets: { dialMs: -1, patience: 1 },
  };
  const found = validateRoute(wrong, "spec").map(({ field }) => field);
  assert.deepEqual(found.sort(), [
    "spec.budgets.dialMs",
    "spec.budgets.patience",
    "spec.endpoints[0].ca[0]",
    "spec.endpoints[0].capabilities[0]",
    "spec.endpoints[0].client[0]",
    "spec.endpoints[0].color",
    "spec.endpoints[0].dialTimeoutMs",
    "spec.endpoints[0].headers.a b",
    "spec.endpoints[0].url",
    "spec.fallbackToOrigin",
    "spec.origin.url",
    "spec.registry",
  ]);
  assert.deepEqual(
    validateRoute({ registry: "r", endpoints: [], fallbackToOrigin: false }).map(({ field }) => field),
    ["fallbackToOrigin"],
  );
  for (const value of [undefined, null, 3, [], "x"]) assert.equal(validateRoute(value).length, 1);
});
