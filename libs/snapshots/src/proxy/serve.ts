/**
 * Serves snapshotters to other processes as containerd's proxy plugins are served: `snapshots.v1` on a unix socket that
 * only its owner can open. The caller's directories must be the same as ours: mounts are told, not made.
 */
import { chmod, mkdtemp, rename, rm, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Metadata, Server, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Message } from "@bufbuild/protobuf";
import { STATUS_CODES, StatusError } from "@berth/base";
import { Snapshots } from "@berth/proto/containerd";
import { snapshotHandlers, type ResolveSnapshotter } from "./handlers.ts";
import { methodDefinition, NAMESPACE_HEADER } from "./transport.ts";

/** How long calls in flight may go on when the server ends. */
const GRACE_MS = 5_000;

/** What we need of grpc-js's calls. */
interface Call {
  readonly request: Message;
  readonly metadata: Metadata;
}

interface WritableCall extends Call {
  write(message: Message): boolean;
  end(): void;
  once(event: "drain" | "cancelled", listener: () => void): void;
  emit(event: "error", error: unknown): boolean;
  readonly cancelled: boolean;
}

/**
 * A socket that a dead process left is replaced.
 * @throws UNAVAILABLE `LISTEN_FAILED`.
 */
export async function serveSnapshots(resolve: ResolveSnapshotter, path: string): Promise<AsyncDisposable> {
  const { default: grpc } = await import("@grpc/grpc-js");
  const server = new grpc.Server();
  const handlers = snapshotHandlers(resolve) as unknown as Record<
    string,
    (request: Message, namespace: string) => unknown
  >;
  const definition: Record<string, ServiceDefinition[string]> = {};
  const implementation: UntypedServiceImplementation = {};
  for (const method of Snapshots.methods) {
    definition[method.localName] = methodDefinition(method) as ServiceDefinition[string];
    const handler = handlers[method.localName]!;
    const unary = (call: Call, reply: (error: unknown, message?: unknown) => void): void => {
      answer(async () => handler(call.request, namespaceOf(call))).then((message) => reply(null, message), reply);
    };
    const streaming = (call: WritableCall): void => {
      void stream(call, (namespace) => handler(call.request, namespace));
    };
    const handle = method.methodKind === "unary" ? unary : streaming;
    implementation[method.localName] = handle as UntypedServiceImplementation[string];
  }
  server.addService(definition, implementation);
  await listen(server, grpc.ServerCredentials.createInsecure(), path);
  return { [Symbol.asyncDispose]: () => close(server, path) };
}

/** Made in a folder that nobody else can enter, and put in its place once only the owner may connect. */
async function listen(server: Server, credentials: Parameters<Server["bindAsync"]>[1], path: string): Promise<void> {
  try {
    const hidden = await mkdtemp(join(dirname(path), ".s-"));
    try {
      const fresh = join(hidden, "s");
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      server.bindAsync(`unix:${fresh}`, credentials, (error) => (error === null ? resolve() : reject(error)));
      await promise;
      await chmod(fresh, 0o600);
      await rename(fresh, path);
    } finally {
      await rm(hidden, { recursive: true, force: true });
    }
  } catch (error) {
    const text = `cannot listen on ${path}: ${(error as Error).message}`;
    throw new StatusError("UNAVAILABLE", text, { reason: "LISTEN_FAILED", cause: error });
  }
}

async function close(server: Server, path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(() => server.forceShutdown(), GRACE_MS);
  server.tryShutdown(() => resolve());
  await promise;
  clearTimeout(timer);
  await unlink(path).catch(() => {});
}

/** containerd requires one of every caller. */
function namespaceOf({ metadata }: Call): string {
  const [namespace] = metadata.get(NAMESPACE_HEADER);
  if (typeof namespace === "string" && namespace !== "") return namespace;
  throw new StatusError("FAILED_PRECONDITION", `the header ${NAMESPACE_HEADER} is missing`, {
    reason: "NAMESPACE_MISSING",
  });
}

async function answer<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw toGrpc(error);
  }
}

async function stream(call: WritableCall, handler: (namespace: string) => unknown): Promise<void> {
  try {
    for await (const message of handler(namespaceOf(call)) as AsyncIterable<Message>) {
      if (call.cancelled) return;
      if (call.write(message)) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      call.once("drain", resolve);
      call.once("cancelled", resolve);
      await promise;
    }
    call.end();
  } catch (error) {
    call.emit("error", toGrpc(error));
  }
}

function toGrpc(error: unknown): { code: number; details: string } {
  const { code, message } = StatusError.from(error);
  return { code: STATUS_CODES.indexOf(code), details: message };
}
