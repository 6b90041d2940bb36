/**
 * What one run of the CLI holds: where it reads and writes, whether it may colour, and, once a command asks, the resolved
 * context and the clients. Commands take a Session and never touch `process`.
 */
import type { DescService } from "@bufbuild/protobuf";
import { Lifetime } from "@berth/base";
import type { ReadStream, WriteStream } from "node:tty";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
import { grpcAddress, resolveContext, type ResolvedContext } from "./context.ts";
import type { GlobalOptions } from "./global-options.ts";
import { createPaint, type Paint } from "@berth/base/terminal";

export interface SessionInput {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly stdin: ReadStream | NodeJS.ReadStream;
  readonly stdout: WriteStream | NodeJS.WriteStream;
  readonly stderr: WriteStream | NodeJS.WriteStream;
  /** Fires at Ctrl-C; every call and wait ends with it. */
  readonly signal: AbortSignal;
}

export interface Session extends SessionInput, AsyncDisposable {
  /** Colours for stdout. */
  readonly paint: Paint;
  context(): ResolvedContext;
  /** What `--namespace` said. */
  readonly namespaceGiven: string | undefined;
  /** The namespace asked for, else the context's, else `default`. */
  namespace(): string;
  /** A client of one service, connected at its first call. */
  client<S extends DescService>(service: S): GrpcClient<S>;
  out(text: string): void;
  /** A remark for people, on stderr. */
  note(text: string): void;
}

export function createSession(input: SessionInput, options: GlobalOptions): Session {
  const lifetime = new Lifetime();
  let resolved: ResolvedContext | undefined;
  const context = (): ResolvedContext => (resolved ??= resolveContext(options, input.env, input.cwd));
  const clients = new Map<string, GrpcClient<DescService>>();

  function connect(service: DescService): GrpcClient<DescService> {
    const { endpoint, token } = context();
    const target = { endpoint: grpcAddress(endpoint), token, signal: input.signal };
    const client = lifetime.own(createGrpcClient(service, target));
    clients.set(service.typeName, client);
    return client;
  }

  const notePaint = createPaint(input.stderr, input.env);
  return {
    ...input,
    paint: createPaint(input.stdout, input.env),
    context,
    namespaceGiven: options.namespace,
    namespace: () => options.namespace ?? context().namespace ?? "default",
    client<S extends DescService>(service: S): GrpcClient<S> {
      return (clients.get(service.typeName) ?? connect(service)) as unknown as GrpcClient<S>;
    },
    out(text) {
      if (text === "") return;
      input.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
    },
    note(text) {
      input.stderr.write(`${notePaint.dim(text)}\n`);
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}
