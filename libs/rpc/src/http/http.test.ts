import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { silentLogger, StatusError } from "@berth/base";
import {
  ListTasksResponseSchema,
  LogsResponseSchema,
  TaskSchema,
  TaskService,
  WatchTasksResponseSchema,
  WorkloadService,
  type Workload,
} from "@berth/proto";
import { authInterceptor, validationInterceptor } from "../interceptors.ts";
import { Invoker, type Interceptor } from "../invoker.ts";
import { implement, type Handlers, type Implementation } from "../service.ts";
import type { Problem } from "./problem.ts";
import { serveHttp } from "./server.ts";

const refuse = (): never => {
  throw new StatusError("UNIMPLEMENTED", "not part of this test");
};

function workloads(over: Partial<Handlers<typeof WorkloadService>> = {}): Implementation {
  return implement(WorkloadService, {
    applyWorkload: async ({ workload }) => workload as Workload,
    getWorkload: refuse,
    listWorkloads: refuse,
    scaleWorkload: refuse,
    deleteWorkload: refuse,
    listWorkloadRevisions: refuse,
    pauseRollout: refuse,
    resumeRollout: refuse,
    undoRollout: refuse,
    restartRollout: refuse,
    watchWorkloads: refuse,
    ...over,
  });
}

function tasks(over: Partial<Handlers<typeof TaskService>> = {}): Implementation {
  return implement(TaskService, {
    getTask: async ({ namespace, name }) => create(TaskSchema, { metadata: { namespace, name } }),
    listTasks: refuse,
    watchTasks: refuse,
    restartTask: async ({ namespace, name }) => create(TaskSchema, { metadata: { namespace, name } }),
    logs: refuse,
    exec: refuse,
    attach: refuse,
    portForward: refuse,
    copyOut: refuse,
    copyIn: refuse,
    ...over,
  });
}

async function serve(implementations: Implementation[], interceptors: Interceptor[] = [validationInterceptor]) {
  const server = await serveHttp(
    { invoker: new Invoker(implementations, interceptors), logger: silentLogger },
    { host: "127.0.0.1", port: 0, graceMs: 500 },
  );
  return { ...server, url: `http://127.0.0.1:${server.port}` };
}

function put(url: string, body: unknown): Promise<Response> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return fetch(url, { method: "PUT", headers: { "content-type": "application/json" }, body: text });
}

async function problem(response: Response, status: number): Promise<Problem> {
  assert.equal(response.status, status, await response.clone().text());
  assert.match(response.headers.get("content-type") ?? "", /^application\/problem\+json/);
  const document = (await response.json()) as Problem;
  assert.equal(document.status, status);
  assert.equal(document.type, "about:blank");
  assert.ok(document.title.length > 0 && document.detail.length > 0);
  return document;
}

const web = { spec: { replicas: 2, container: { image: "busybox:1" } } };

test("serveHttp binds path, query and body to one request", async () => {
  const seen: unknown[] = [];
  await using server = await serve([
    workloads({
      applyWorkload: async ({ workload, dryRun }) => {
        seen.push(dryRun);
        return workload as Workload;
      },
    }),
  ]);
  const response = await put(`${server.url}/v1/namespaces/demo/workloads/web?dryRun=true`, web);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("berth-request-id") ?? "", /^[0-9a-f-]{36}$/);
  const json = (await response.json()) as Record<string, unknown>;
  assert.deepEqual(json, { ...web, metadata: { name: "web", namespace: "demo" } });
  await put(`${server.url}/v1/namespaces/demo/workloads/web?dry_run=false`, web);
  assert.deepEqual(seen, [true, false]);
});

test("serveHttp names unknown fields with the nearest valid one, and wrong types, all at once", async () => {
  await using server = await serve([workloads()]);
  const body = {
    spec: { replcas: 2, container: { image: 7, env: [{ name: "A" }, { nam: "B" }], args: "x" }, everyNode: "yes" },
  };
  const { reason, violations } = await problem(await put(`${server.url}/v1/namespaces/demo/workloads/web`, body), 400);
  assert.equal(reason, "FIELD_INVALID");
  assert.deepEqual(Object.fromEntries(violations!.map(({ field, description }) => [field, description])), {
    "spec.replcas": 'is not a field of WorkloadSpec; did you mean "replicas"?',
    "spec.container.image": "is 7 where text must stand",
    "spec.container.env[1].nam": 'is not a field of EnvVar; did you mean "name"?',
    "spec.container.args": 'is the text "x" where a list must stand',
    "spec.everyNode": 'is the text "yes" where true or false must stand',
  });
});

test("serveHttp reports broken rules with paths as in a manifest", async () => {
  await using server = await serve([workloads()]);
  const body = {
    spec: {
      replicas: -1,
      container: {
        image: "Busybox",
        env: [{ name: "OK" }, { name: "1X" }],
        resources: { memory: "64MB", disk: "0" },
        stop: { signal: "SIGTREM", grace: "-1s" },
        network: { mode: "brigde", ports: [{ containerPort: 80 }] },
      },
      restart: { policy: "Always" },
      placement: { nodeSelector: { "bad key": "x" } },
    },
  };
  const { violations } = await problem(await put(`${server.url}/v1/namespaces/demo/workloads/web`, body), 400);
  const by = Object.fromEntries(violations!.map(({ field, description }) => [field, description]));
  assert.deepEqual(Object.keys(by).sort(), [
    "spec.container.env[1].name",
    "spec.container.image",
    "spec.container.network.mode",
    "spec.container.network.ports[0].hostPort",
    "spec.container.resources.disk",
    "spec.container.resources.memory",
    "spec.container.stop.grace",
    "spec.container.stop.signal",
    'spec.placement.nodeSelector["bad key"]',
    "spec.replicas",
    "spec.restart.policy",
  ]);
  assert.equal(by["spec.restart.policy"], '"Always" is not one of always, onFailure, never; did you mean "always"?');
  assert.equal(by["spec.container.network.ports[0].hostPort"], "is required");
});

test("serveHttp clears what only the controller sets, and refuses a body that contradicts the path", async () => {
  await using server = await serve([workloads()]);
  const shown = {
    ...web,
    metadata: { uid: "u", generation: "7", createdAt: "2026-01-02T03:04:05Z" },
    status: { running: 2 },
  };
  const response = await put(`${server.url}/v1/namespaces/demo/workloads/web`, shown);
  assert.deepEqual(await response.json(), { ...web, metadata: { name: "web", namespace: "demo" } });
  const other = { ...web, metadata: { name: "other" } };
  const refused = await problem(await put(`${server.url}/v1/namespaces/demo/workloads/web`, other), 400);
  assert.match(refused.detail, /metadata\.name: is "other" where the path says "web"/);
});

test("serveHttp refuses bodies that are too large, broken, or not JSON", async () => {
  await using server = await serve([workloads()]);
  const url = `${server.url}/v1/namespaces/demo/workloads/web`;
  const large = await problem(await put(url, { spec: { container: { image: "x".repeat(1024 * 1024 + 1) } } }), 413);
  assert.equal(large.reason, "BODY_TOO_LARGE");
  assert.equal((await problem(await put(url, "{nope"), 400)).reason, "BODY_NOT_JSON");
  const yaml = await fetch(url, { method: "PUT", headers: { "content-type": "text/yaml" }, body: "a: 1" });
  assert.equal((await problem(yaml, 415)).reason, "CONTENT_TYPE_UNSUPPORTED");
  assert.match((await problem(await put(url, "[]"), 400)).detail, /is a list where a map of fields must stand/);
});

test("serveHttp answers unknown paths, methods and query parameters with problems", async () => {
  await using server = await serve([tasks()]);
  assert.equal((await problem(await fetch(`${server.url}/nowhere`), 404)).reason, "ROUTE_UNKNOWN");
  assert.equal((await problem(await fetch(`${server.url}/v1/nowhere`), 404)).reason, "ROUTE_UNKNOWN");
  const wrongMethod = await fetch(`${server.url}/v1/namespaces/a/tasks/b`, { method: "DELETE" });
  assert.equal(wrongMethod.headers.get("allow"), "GET");
  await problem(wrongMethod, 405);
  const query = await problem(await fetch(`${server.url}/v1/namespaces/a/tasks?pageSiz=3`), 400);
  assert.match(query.detail, /pageSiz: is not a query parameter here; did you mean "pageSize"/);
  const type = await problem(await fetch(`${server.url}/v1/namespaces/a/tasks?pageSize=many`), 400);
  assert.match(type.detail, /pageSize: is the text "many" where a whole number/);
  await problem(await fetch(`${server.url}/v1/namespaces/%zz/tasks`), 400);
});

test("serveHttp routes verbs and takes an absent body for none", async () => {
  await using server = await serve([
    tasks({
      listTasks: async ({ pageSize, workload }) =>
        create(ListTasksResponseSchema, { nextPageToken: `${pageSize}${workload}` }),
    }),
  ]);
  const restarted = await fetch(`${server.url}/v1/namespaces/a/tasks/b:restart`, { method: "POST" });
  assert.deepEqual(await restarted.json(), { metadata: { namespace: "a", name: "b" } });
  const listed = await fetch(`${server.url}/v1/namespaces/-/tasks?page_size=5&workload=w`);
  assert.deepEqual(await listed.json(), { nextPageToken: "5w" });
});

test("serveHttp asks for the token before it looks at the request", async () => {
  const auth = authInterceptor(async () => ({ tokenId: "1", name: "t" }), []);
  await using server = await serve([workloads()], [auth, validationInterceptor]);
  const response = await put(`${server.url}/v1/namespaces/demo/workloads/web`, { nonsense: 1 });
  assert.equal(response.headers.get("www-authenticate"), "Bearer");
  assert.equal((await problem(response, 401)).reason, "TOKEN_MISSING");
});

test("serveHttp maps codes to statuses and hides foreign errors", async () => {
  const errors: Record<string, [Error, number]> = {
    a: [new StatusError("NOT_FOUND", "no"), 404],
    b: [new StatusError("ABORTED", "no"), 409],
    c: [new StatusError("FAILED_PRECONDITION", "no"), 409],
    d: [new StatusError("OUT_OF_RANGE", "no", { reason: "CURSOR_EXPIRED" }), 410],
    e: [new Error("table berth_secret"), 500],
    f: [new StatusError("UNAVAILABLE", "no", { retryAfterMs: 1500 }), 503],
  };
  await using server = await serve([tasks({ getTask: ({ name }) => Promise.reject(errors[name]![0]) })]);
  for (const [name, [, status]] of Object.entries(errors)) {
    const response = await fetch(`${server.url}/v1/namespaces/x/tasks/${name}`);
    if (name === "f") assert.equal(response.headers.get("retry-after"), "2");
    assert.doesNotMatch(JSON.stringify(await problem(response, status)), /berth_secret/);
  }
});

test("serveHttp streams NDJSON, with an error in the midst as the last line", async () => {
  await using server = await serve([
    tasks({
      async *logs() {
        yield create(LogsResponseSchema, { stream: "stdout", data: Buffer.from("hi\n") });
        throw new StatusError("DATA_LOSS", "a frame is missing");
      },
    }),
  ]);
  const response = await fetch(`${server.url}/v1/namespaces/a/tasks/b/logs`);
  assert.equal(response.headers.get("content-type"), "application/x-ndjson");
  const lines = (await response.text())
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(lines[0], { stream: "stdout", data: "aGkK" });
  assert.equal((lines[1]!["error"] as Problem).code, "DATA_LOSS");
});

test("serveHttp answers a stream that fails at once with a status of its own", async () => {
  await using server = await serve([tasks()]);
  await problem(await fetch(`${server.url}/v1/namespaces/a/tasks/b/logs`), 501);
});

test("serveHttp speaks server-sent events whose ids resume", async () => {
  const cursors: string[] = [];
  await using server = await serve([
    tasks({
      async *watchTasks({ cursor }) {
        cursors.push(cursor);
        yield create(WatchTasksResponseSchema, { event: { type: "ADDED", cursor: "c1" } });
      },
    }),
  ]);
  const headers = { accept: "text/event-stream", "last-event-id": "c0" };
  const response = await fetch(`${server.url}/v1/namespaces/-/tasks:watch`, { headers });
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  assert.equal(await response.text(), 'id: c1\ndata: {"event":{"type":"ADDED","cursor":"c1"}}\n\n');
  assert.deepEqual(cursors, ["c0"]);
});

test("serveHttp ends the handler when the reader goes away, and does not run ahead of it", async () => {
  let produced = 0;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const data = new Uint8Array(64 * 1024);
  await using server = await serve([
    tasks({
      async *logs() {
        try {
          for (;;) {
            produced += 1;
            yield create(LogsResponseSchema, { data });
          }
        } finally {
          resolve();
        }
      },
    }),
  ]);
  const request = httpRequest(`${server.url}/v1/namespaces/a/tasks/b/logs`, (response) => {
    response.once("data", () => request.destroy());
  });
  request.on("error", () => {});
  request.end();
  await ended;
  assert.ok(produced < 2_000, `the handler ran ahead: ${produced} messages`);
});

test("serveHttp ends streams with the reason when it closes", async () => {
  const server = await serve([
    tasks({
      async *watchTasks(_, { signal }) {
        yield create(WatchTasksResponseSchema, { event: { type: "SNAPSHOT_END" } });
        await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
      },
    }),
  ]);
  const response = await fetch(`${server.url}/v1/namespaces/-/tasks:watch`);
  const text = response.text();
  await server[Symbol.asyncDispose]();
  assert.match(await text, /"reason":"STOPPING"/);
});
