/**
 * The HTTP/JSON gateway, made from the `(berth.v1.http)` annotations: every annotated RPC at its path, protobuf JSON in and
 * out, problems for errors, streams as NDJSON or server-sent events.
 *
 * Invariants: bodies above `maxRequestBytes` are refused before they are read whole; a handler's signal fires when the
 * client goes away or the server ends; closing lets unary calls finish within `graceMs`, ends streams, then cuts.
 */
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { toJson, type Message } from "@bufbuild/protobuf";
import { fastify, type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { StatusError, uuidv7, type Logger } from "@berth/base";
import { newCall, type Call, type Invoker } from "../invoker.ts";
import { problemOf, PROBLEM_TYPE } from "./problem.ts";
import { watermarkOf } from "./watermark.ts";
import { requestMessage } from "./request.ts";
import { matchRoute, routesOf, type MatchedRoute } from "./routes.ts";
import { openTextStream, streamFormat } from "./stream.ts";

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
}

export interface HttpServerDeps {
  readonly invoker: Invoker;
  readonly logger: Logger;
  /** Adds what is no RPC: /healthz, /metrics, /openapi.json. */
  readonly extraRoutes?: (app: FastifyInstance) => void;
}

export interface HttpServerConfig {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly maxRequestBytes?: number;
  readonly graceMs?: number;
}

/** @throws UNAVAILABLE `LISTEN_FAILED` when the address cannot be taken */
export async function serveHttp(deps: HttpServerDeps, config: HttpServerConfig): Promise<HttpServer> {
  const ending = new AbortController();
  const app = fastify({
    bodyLimit: config.maxRequestBytes ?? 1024 * 1024,
    genReqId: () => uuidv7(),
    forceCloseConnections: "idle",
    routerOptions: { maxParamLength: 1024 },
    exposeHeadRoutes: false,
    // What Fastify refuses before any route, such as broken percent-encoding.
    frameworkErrors: (error, request, reply) => sendProblem(reply, asStatusError(error, request), request.id),
  });
  // A connection that a stream kept busy is idle only now: it must not hold up the closing.
  app.addHook("onResponse", async () => {
    if (ending.signal.aborted) setImmediate(() => app.server.closeIdleConnections());
  });
  acceptJsonOnly(app);
  answerProblems(app, deps.logger);
  deps.extraRoutes?.(app);
  mountRoutes(app, deps.invoker, ending.signal);
  try {
    await app.listen({ host: config.host, port: config.port });
  } catch (error) {
    const message = `HTTP cannot listen on ${config.host}:${config.port}; is another controller running? choose another listen.http`;
    throw new StatusError("UNAVAILABLE", message, { reason: "LISTEN_FAILED", cause: error });
  }
  let closing: Promise<void> | undefined;
  return {
    port: (app.server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => (closing ??= close(app, ending, config.graceMs ?? 5_000)),
  };
}

async function close(app: FastifyInstance, ending: AbortController, graceMs: number): Promise<void> {
  ending.abort(new StatusError("UNAVAILABLE", "the controller is stopping; try again", { reason: "STOPPING" }));
  const force = setTimeout(() => app.server.closeAllConnections(), graceMs);
  await app.close();
  clearTimeout(force);
}

function acceptJsonOnly(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(/^application\/([a-z0-9.-]+\+)?json\b/, { parseAs: "string" }, (_request, body, done) => {
    if (body === "") return done(null, undefined);
    try {
      return done(null, JSON.parse(body as string));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return done(new StatusError("INVALID_ARGUMENT", `the body is not JSON: ${why}`, { reason: "BODY_NOT_JSON" }));
    }
  });
}

function answerProblems(app: FastifyInstance, logger: Logger): void {
  app.setErrorHandler((error: FastifyError | Error, request, reply) => {
    const status = asStatusError(error, request);
    if (status.code === "INTERNAL") logger.error({ err: error, requestId: request.id }, "HTTP request failed");
    sendProblem(reply, status, request.id);
  });
  app.setNotFoundHandler((request) => {
    // Throws the right problem: nothing is routed outside of the routes.
    matchRoute([], request.method, pathOf(request));
  });
}

function sendProblem(reply: FastifyReply, error: StatusError, requestId: string): void {
  const problem = problemOf(error, requestId);
  if (problem.status === 401) void reply.header("www-authenticate", "Bearer");
  if (problem.status === 405) void reply.header("allow", String(error.details["allow"]));
  if (error.retryAfterMs !== undefined) void reply.header("retry-after", Math.ceil(error.retryAfterMs / 1000));
  void reply.code(problem.status).type(PROBLEM_TYPE).send(JSON.stringify(problem));
}

/** Fastify's own refusals in our words. */
function asStatusError(error: FastifyError | Error, request: FastifyRequest): StatusError {
  if (error instanceof StatusError) return error;
  const code = "code" in error ? error.code : "";
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    const limit = request.routeOptions.bodyLimit ?? 0;
    return new StatusError("INVALID_ARGUMENT", `the body is larger than ${limit} bytes; send less`, {
      reason: "BODY_TOO_LARGE",
      details: { limitBytes: limit },
    });
  }
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    const given = JSON.stringify(request.headers["content-type"] ?? "");
    return new StatusError("INVALID_ARGUMENT", `content type ${given} is not understood; send application/json`, {
      reason: "CONTENT_TYPE_UNSUPPORTED",
    });
  }
  if ("statusCode" in error && error.statusCode !== undefined && error.statusCode < 500) {
    return new StatusError("INVALID_ARGUMENT", error.message, { reason: code || "BAD_REQUEST", cause: error });
  }
  return new StatusError("INTERNAL", `internal error; the controller's log has it as request ${request.id}`, {
    cause: error,
  });
}

function mountRoutes(app: FastifyInstance, invoker: Invoker, ending: AbortSignal): void {
  const routes = routesOf(invoker.implementations.map(({ service }) => service));
  app.route({
    method: ["GET", "PUT", "POST", "DELETE", "PATCH"],
    url: "/v1/*",
    handler: async (request, reply) => {
      const matched = matchRoute(routes, request.method, pathOf(request));
      void reply.header("berth-request-id", request.id);
      const streams = matched.route.rpc.methodKind === "server_streaming";
      const call = callOf(request, reply, matched, streams ? ending : undefined);
      const read = (): Message => requestMessage(matched, queryOf(request, matched), request.body);
      return streams
        ? await answerStream(invoker, call, read, request, reply)
        : await answer(invoker, call, read, reply);
    },
  });
}

async function answer(invoker: Invoker, call: Call, read: () => Message, reply: FastifyReply) {
  const result = await invoker.unary(call, read);
  const watermark = watermarkOf(result);
  if (watermark !== undefined) void reply.header("berth-watermark", watermark);
  return reply.type("application/json").send(JSON.stringify(toJson(call.method.output, result)));
}

async function answerStream(
  invoker: Invoker,
  call: Call,
  read: () => Message,
  request: FastifyRequest,
  reply: FastifyReply,
) {
  const format = streamFormat(request.headers.accept);
  const chunks = await openTextStream(invoker.serverStream(call, read), call.method.output, format, call.requestId);
  void reply.type(format.contentType).header("cache-control", "no-store").header("x-accel-buffering", "no");
  return reply.send(Readable.from(chunks, { highWaterMark: 16 }));
}

function callOf(request: FastifyRequest, reply: FastifyReply, { route }: MatchedRoute, ending?: AbortSignal): Call {
  const gone = new AbortController();
  reply.raw.on("close", () => {
    if (!reply.raw.writableFinished) gone.abort(new StatusError("CANCELLED", "the caller has gone away"));
  });
  return newCall({
    method: route.rpc,
    transport: "http",
    authorization: request.headers.authorization,
    signal: ending === undefined ? gone.signal : AbortSignal.any([gone.signal, ending]),
    requestId: request.id,
  });
}

function pathOf(request: FastifyRequest): string {
  return request.url.split("?", 1)[0]!;
}

/** The query; a browser's EventSource that reconnects says in a header where it was. */
function queryOf(request: FastifyRequest, { route }: MatchedRoute): URLSearchParams {
  const mark = request.url.indexOf("?");
  const query = new URLSearchParams(mark < 0 ? "" : request.url.slice(mark + 1));
  const last = request.headers["last-event-id"];
  if (typeof last === "string" && last !== "" && route.rpc.input.field["cursor"] !== undefined)
    query.set("cursor", last);
  return query;
}
