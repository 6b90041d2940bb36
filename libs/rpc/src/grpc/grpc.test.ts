import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { silentLogger, StatusError } from "@berth/base";
import {
  CampaignService,
  ExecResponseSchema,
  GetHealthRequestSchema,
  HealthSchema,
  HealthService,
  LogsResponseSchema,
  NamespaceSchema,
  NamespaceService,
  TaskService,
} from "@berth/proto";
import { authInterceptor, loggingInterceptor, metricsInterceptor, validationInterceptor } from "../interceptors.ts";
import { Invoker, type Interceptor } from "../invoker.ts";
import { implement, type Handlers, type Implementation } from "../service.ts";
import { createGrpcClient } from "./client.ts";
import { serveGrpc, type GrpcServer } from "./server.ts";

const refuse = (): never => {
  throw new StatusError("UNIMPLEMENTED", "not part of this test");
};

function namespaces(over: Partial<Handlers<typeof NamespaceService>>): Implementation {
  return implement(NamespaceService, {
    applyNamespace: refuse,
    getNamespace: refuse,
    listNamespaces: refuse,
    deleteNamespace: refuse,
    ...over,
  });
}

function tasks(over: Partial<Handlers<typeof TaskService>>): Implementation {
  return implement(TaskService, {
    getTask: refuse,
    listTasks: refuse,
    watchTasks: refuse,
    restartTask: refuse,
    logs: refuse,
    exec: refuse,
    attach: refuse,
    portForward: refuse,
    copyOut: refuse,
    copyIn: refuse,
    ...over,
  });
}

const health = implement(HealthService, {
  getHealth: async () => create(HealthSchema, { status: "ready" }),
  confirmStore: refuse,
  declareStoreRestored: refuse,
  releaseStore: refuse,
});

async function serve(
  implementations: Implementation[],
  interceptors: Interceptor[] = [],
): Promise<GrpcServer & { endpoint: string }> {
  const server = await serveGrpc(
    { invoker: new Invoker(implementations, interceptors) },
    { host: "127.0.0.1", port: 0, graceMs: 500 },
  );
  return { ...server, endpoint: `127.0.0.1:${server.port}` };
}

test("serveGrpc answers unary calls with the handler's message", async () => {
  await using server = await serve([
    namespaces({ getNamespace: async ({ name }) => create(NamespaceSchema, { metadata: { name } }) }),
  ]);
  using client = createGrpcClient(NamespaceService, { endpoint: server.endpoint });
  const reply = await client.getNamespace({ name: "shop" });
  assert.equal(reply.metadata?.name, "shop");
});

test("createGrpcClient restores the server's StatusError whole", async () => {
  const thrown = new StatusError("FAILED_PRECONDITION", 'namespace "ä" does not exist; create it', {
    reason: "NAMESPACE_MISSING",
    details: { namespace: "ä", tries: 2 },
    violations: [{ field: "metadata.namespace", description: "does not exist" }],
    retryAfterMs: 250,
  });
  await using server = await serve([namespaces({ getNamespace: () => Promise.reject(thrown) })]);
  using client = createGrpcClient(NamespaceService, { endpoint: server.endpoint });
  await assert.rejects(client.getNamespace({ name: "x" }), (error: unknown) => {
    assert.ok(error instanceof StatusError);
    const { code, message, reason, details, violations, retryAfterMs } = error;
    assert.deepEqual(
      { code, message, reason, details, violations, retryAfterMs },
      {
        code: thrown.code,
        message: thrown.message,
        reason: thrown.reason,
        details: thrown.details,
        violations: thrown.violations,
        retryAfterMs: 250,
      },
    );
    return true;
  });
});

test("serveGrpc fits an error with many violations into its trailer", async () => {
  const violations = Array.from({ length: 500 }, (_, i) => ({ field: `f${i}`, description: "x".repeat(100) }));
  await using server = await serve([
    namespaces({ getNamespace: () => Promise.reject(StatusError.invalid(violations)) }),
  ]);
  using client = createGrpcClient(NamespaceService, { endpoint: server.endpoint });
  await assert.rejects(client.getNamespace({ name: "x" }), (error: unknown) => {
    assert.ok(error instanceof StatusError && error.code === "INVALID_ARGUMENT");
    assert.ok(error.violations.length > 10 && error.violations.length < 500);
    return true;
  });
});

test("serveGrpc hides what a foreign error says", async () => {
  await using server = await serve([namespaces({ getNamespace: () => Promise.reject(new Error("relation secrets")) })]);
  using client = createGrpcClient(NamespaceService, { endpoint: server.endpoint });
  await assert.rejects(client.getNamespace({ name: "x" }), (error: unknown) => {
    assert.ok(error instanceof StatusError && error.code === "INTERNAL");
    assert.doesNotMatch(JSON.stringify([error.message, error.details]), /secrets/);
    assert.match(error.message, /request [0-9a-f-]{36}/);
    return true;
  });
});

test("authInterceptor lets the open methods through and asks a token of the others", async () => {
  const seen: string[] = [];
  const auth = authInterceptor(
    async (token) => {
      seen.push(token);
      if (token !== "good")
        throw new StatusError("UNAUTHENTICATED", "the token is not known", { reason: "TOKEN_UNKNOWN" });
      return { tokenId: "1", name: "tester" };
    },
    [HealthService.method.getHealth],
  );
  const api = namespaces({
    getNamespace: async (_, { principal }) => create(NamespaceSchema, { metadata: { name: principal?.name ?? "" } }),
  });
  await using server = await serve([api, health], [auth]);
  const { endpoint } = server;
  using open = createGrpcClient(HealthService, { endpoint });
  assert.equal((await open.getHealth(create(GetHealthRequestSchema))).status, "ready");
  using none = createGrpcClient(NamespaceService, { endpoint });
  await assert.rejects(none.getNamespace({ name: "x" }), { code: "UNAUTHENTICATED", reason: "TOKEN_MISSING" });
  using bad = createGrpcClient(NamespaceService, { endpoint, token: "bad" });
  await assert.rejects(bad.getNamespace({ name: "x" }), { code: "UNAUTHENTICATED", reason: "TOKEN_UNKNOWN" });
  using good = createGrpcClient(NamespaceService, { endpoint, token: "good" });
  assert.equal((await good.getNamespace({ name: "x" })).metadata?.name, "tester");
  assert.deepEqual(seen, ["bad", "good"]);
});

test("validationInterceptor names fields, metricsInterceptor counts outcomes", async () => {
  const observed: string[] = [];
  const metrics = metricsInterceptor({ observe: (labels) => void observed.push(`${labels.method} ${labels.code}`) });
  await using server = await serve(
    [namespaces({})],
    [metrics, loggingInterceptor(silentLogger), validationInterceptor],
  );
  using client = createGrpcClient(NamespaceService, { endpoint: server.endpoint });
  await assert.rejects(client.getNamespace({ name: "Bad" }), (error: unknown) => {
    assert.ok(error instanceof StatusError);
    assert.deepEqual(error.violations, [{ field: "name", description: '"Bad" has upper-case letters; write "bad"' }]);
    return true;
  });
  assert.deepEqual(observed, ["berth.v1.NamespaceService/GetNamespace INVALID_ARGUMENT"]);
});

test("serveGrpc refuses messages above its limit", async () => {
  await using server = await serve([namespaces({})]);
  using client = createGrpcClient(NamespaceService, { endpoint: server.endpoint });
  const description = "x".repeat(2 * 1024 * 1024);
  await assert.rejects(client.applyNamespace({ namespace: { spec: { description } } }), { code: "RESOURCE_EXHAUSTED" });
});

test("serveGrpc streams no faster than the client reads, and ends the handler when the client leaves", async () => {
  let produced = 0;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const data = new Uint8Array(64 * 1024);
  await using server = await serve([
    tasks({
      async *logs() {
        try {
          for (;;) {
            produced += 1;
            yield create(LogsResponseSchema, { stream: "stdout", data });
          }
        } finally {
          resolve();
        }
      },
    }),
  ]);
  using client = createGrpcClient(TaskService, { endpoint: server.endpoint });
  let got = 0;
  for await (const line of client.logs({ namespace: "a", name: "b" })) {
    assert.equal(line.data.length, data.length);
    got += 1;
    if (got === 20) break;
  }
  await ended;
  assert.ok(produced < 2_000, `the handler ran ahead: ${produced} messages`);
});

test("serveGrpc passes errors in the midst of a stream on", async () => {
  await using server = await serve([
    tasks({
      async *logs() {
        yield create(LogsResponseSchema, { stream: "stdout" });
        throw new StatusError("DATA_LOSS", "a frame is missing", { reason: "FRAME_LOST" });
      },
    }),
  ]);
  using client = createGrpcClient(TaskService, { endpoint: server.endpoint });
  let got = 0;
  await assert.rejects(
    async () => {
      for await (const _ of client.logs({ namespace: "a", name: "b" })) got += 1;
    },
    { code: "DATA_LOSS", reason: "FRAME_LOST" },
  );
  assert.equal(got, 1);
});

test("serveGrpc carries both directions of a call, and half-close", async () => {
  await using server = await serve([
    tasks({
      async *exec(requests) {
        for await (const { message } of requests) {
          if (message.case === "stdin")
            yield create(ExecResponseSchema, { message: { case: "stdout", value: message.value } });
        }
        yield create(ExecResponseSchema, { message: { case: "exitCode", value: 7 } });
      },
    }),
  ]);
  using client = createGrpcClient(TaskService, { endpoint: server.endpoint });
  async function* input() {
    for (const word of ["a", "b"]) yield { message: { case: "stdin" as const, value: Buffer.from(word) } };
  }
  const got: string[] = [];
  for await (const { message } of client.exec(input())) {
    got.push(
      message.case === "stdout" ? Buffer.from(message.value).toString() : `${message.case} ${String(message.value)}`,
    );
  }
  assert.deepEqual(got, ["a", "b", "exitCode 7"]);
});

test("createGrpcClient honours its signal and its timeout, and the handler hears why", async () => {
  const started = Promise.withResolvers<void>();
  const heard: Record<string, () => void> = {};
  const cancelled = new Promise<void>((resolve) => (heard["CANCELLED"] = resolve));
  const expired = new Promise<void>((resolve) => (heard["DEADLINE_EXCEEDED"] = resolve));
  await using server = await serve([
    namespaces({
      getNamespace: (_, { signal }) => {
        started.resolve();
        return new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            heard[(signal.reason as StatusError).code]?.();
            reject(signal.reason as Error);
          });
        });
      },
    }),
  ]);
  using client = createGrpcClient(NamespaceService, { endpoint: server.endpoint });
  const stop = new AbortController();
  const waiting = client.getNamespace({ name: "x" }, { signal: stop.signal });
  await started.promise;
  stop.abort();
  await assert.rejects(waiting, { code: "CANCELLED" });
  await cancelled;
  await assert.rejects(client.getNamespace({ name: "x" }, { timeoutMs: 150 }), { code: "DEADLINE_EXCEEDED" });
  await expired;
});

test("createGrpcClient says UNAVAILABLE where nobody listens", async () => {
  using client = createGrpcClient(HealthService, { endpoint: "127.0.0.1:1" });
  await assert.rejects(client.getHealth({}), { code: "UNAVAILABLE" });
});

test("serveGrpc ends watches at once when it closes", async () => {
  const { promise: started, resolve } = Promise.withResolvers<void>();
  const server = await serve([
    implement(CampaignService, {
      applyCampaign: refuse,
      getCampaign: refuse,
      listCampaigns: refuse,
      deleteCampaign: refuse,
      listTargets: refuse,
      watchProgress: refuse,
      // eslint-disable-next-line require-yield
      async *watchCampaigns(_, { signal }) {
        resolve();
        await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
      },
    }),
  ]);
  using client = createGrpcClient(CampaignService, { endpoint: server.endpoint });
  const watching = (async () => {
    for await (const _ of client.watchCampaigns({ namespace: "-" })) assert.fail("nothing was to come");
  })();
  watching.catch(() => {});
  await started;
  const closing = server[Symbol.asyncDispose]();
  await assert.rejects(watching, { code: "UNAVAILABLE", reason: "STOPPING" });
  await closing;
});

test("serveGrpc refuses an address that is taken", async () => {
  await using server = await serve([health]);
  await assert.rejects(serveGrpc({ invoker: new Invoker([health], []) }, { host: "127.0.0.1", port: server.port }), {
    code: "UNAVAILABLE",
    reason: "LISTEN_FAILED",
  });
});
