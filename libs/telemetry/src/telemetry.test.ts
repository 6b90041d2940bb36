import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLogger, StatusError } from "@berth/base";
import { createLogger } from "./logger.ts";
import { Metrics } from "./metrics.ts";
import { startMetricsServer } from "./metrics-server.ts";
import { redact } from "./redact.ts";

function capture(): { lines: () => Record<string, unknown>[]; write: (line: string) => void } {
  const lines: Record<string, unknown>[] = [];
  return { lines: () => lines, write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
}

test("createLogger writes one JSON object a line with level word, name and child fields", () => {
  const out = capture();
  const logger = createLogger({ name: "controller", destination: out }).child({ node: "a" });
  logger.info({ tasks: 2 }, "placed");
  logger.debug({}, "below the level");
  const [line] = out.lines();
  assert.equal(out.lines().length, 1);
  assert.equal(line?.["level"], "info");
  assert.equal(line?.["node"], "a");
  assert.equal(line?.["tasks"], 2);
  assert.equal(line?.["msg"], "placed");
});

test("createLogger takes secrets out of fields, URLs, tokens and errors", () => {
  const out = capture();
  const logger = createLogger({ name: "x", destination: out });
  const cause = new Error("connect postgres://admin:hunter2@db/x");
  logger.error(
    {
      auth: { password: "hunter2", bootstrapToken: "hunter2", user: "admin" },
      url: "redis://:hunter2@r:1",
      note: "Bearer brt_ab12_hunter2hunter2",
      err: new StatusError("UNAVAILABLE", "no store", { reason: "STORE_DOWN", cause }),
    },
    "failed",
  );
  const text = JSON.stringify(out.lines());
  assert.doesNotMatch(text, /hunter2/);
  assert.match(text, /"user":"admin"/);
  assert.match(text, /"reason":"STORE_DOWN"/);
  assert.match(text, /brt_ab12_\[redacted\]/);
});

test("redact bounds depth, so that a cycle ends", () => {
  const cycle: Record<string, unknown> = {};
  cycle["self"] = cycle;
  assert.match(JSON.stringify(redact(cycle)), /\[deeper\]/);
});

test("startMetricsServer serves the registry and nothing else", async () => {
  const metrics = new Metrics({ processMetrics: false });
  const started = metrics.counter({ name: "things_total", help: "Things.", labels: ["kind"] });
  started.add({ kind: "a" }, 3);
  const depth = metrics.gauge({ name: "depth", help: "Depth.", collect: (gauge) => gauge.set({}, 7) });
  assert.ok(depth);
  metrics.histogram({ name: "wait_seconds", help: "Waits." }).observe({}, 0.02);
  await using server = await startMetricsServer({ metrics, logger: silentLogger }, { host: "127.0.0.1", port: 0 });
  const response = await fetch(`http://127.0.0.1:${server.port}/metrics`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain/);
  const text = await response.text();
  assert.match(text, /things_total\{kind="a"\} 3/);
  assert.match(text, /^depth 7$/m);
  assert.match(text, /wait_seconds_bucket\{le="0.025"\} 1/);
  assert.equal((await fetch(`http://127.0.0.1:${server.port}/`)).status, 404);
  assert.equal((await fetch(`http://127.0.0.1:${server.port}/metrics`, { method: "POST" })).status, 405);
});

test("startMetricsServer refuses an address that is taken, and closes twice without harm", async () => {
  const metrics = new Metrics({ processMetrics: false });
  const deps = { metrics, logger: silentLogger };
  const server = await startMetricsServer(deps, { host: "127.0.0.1", port: 0 });
  await assert.rejects(startMetricsServer(deps, { host: "127.0.0.1", port: server.port }), {
    code: "UNAVAILABLE",
    reason: "METRICS_LISTEN_FAILED",
  });
  await server[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});
