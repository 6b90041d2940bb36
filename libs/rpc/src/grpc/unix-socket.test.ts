import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { hasCode, StatusError } from "@berth/base";
import { HealthSchema, HealthService } from "@berth/proto";
import { Invoker } from "../invoker.ts";
import { implement } from "../service.ts";
import { createGrpcClient } from "./client.ts";
import { serveGrpc } from "./server.ts";

const cheese = async (): Promise<never> => {
  throw new StatusError("INTERNAL", "the disk is made of cheese");
};

function invoker(): Invoker {
  const health = implement(HealthService, {
    getHealth: async () => create(HealthSchema, { status: "ready" }),
    confirmStore: cheese,
    declareStoreRestored: cheese,
    releaseStore: cheese,
  });
  return new Invoker([health], [], { program: "berthd", callersAreTrusted: true });
}

function scratch(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "berth-socket-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

test("serveGrpc on a socket lets its owner in alone, and leaves nothing behind", async () => {
  using dir = scratch();
  const socketPath = join(dir.path, "run", "a.sock");
  {
    await using _server = await serveGrpc({ invoker: invoker() }, { socketPath });
    const info = statSync(socketPath);
    assert.deepEqual([info.isSocket(), info.mode & 0o777], [true, 0o600]);
    assert.deepEqual(readdirSync(join(dir.path, "run")), ["a.sock"]);
    using client = createGrpcClient(HealthService, { endpoint: `unix:${socketPath}` });
    assert.equal((await client.getHealth({})).status, "ready");
    await assert.rejects(client.confirmStore({}), /made of cheese/, "the machine's own operator sees errors in words");
  }
  assert.deepEqual(readdirSync(join(dir.path, "run")), []);
});

test("serveGrpc replaces the socket of a dead server and refuses to take a living one's", async () => {
  using dir = scratch();
  const socketPath = join(dir.path, "a.sock");
  await using first = await serveGrpc({ invoker: invoker() }, { socketPath });
  await assert.rejects(
    serveGrpc({ invoker: invoker() }, { socketPath }),
    (error) => hasCode(error, "UNAVAILABLE") && /another process serves it/.test(error.message),
  );
  await first[Symbol.asyncDispose]();
  // A file that nobody listens behind: what kill -9 leaves.
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(join(dir.path, "b.sock"), resolve));
  renameSync(join(dir.path, "b.sock"), socketPath);
  await new Promise((resolve) => dead.close(resolve));
  assert.ok(statSync(socketPath).isSocket());
  await using _again = await serveGrpc({ invoker: invoker() }, { socketPath });
  using client = createGrpcClient(HealthService, { endpoint: `unix:${socketPath}` });
  assert.equal((await client.getHealth({})).status, "ready");
});

test("serveGrpc says that a socket's path is too long", async () => {
  using dir = scratch();
  const socketPath = join(dir.path, "x".repeat(100));
  await assert.rejects(serveGrpc({ invoker: invoker() }, { socketPath }), /cannot listen on .*too long/);
});
