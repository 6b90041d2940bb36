/** What servers need: `@berth/rpc/server`. */
export { serveGrpc, type GrpcAddress, type GrpcServer, type GrpcServerConfig } from "./grpc/server.ts";
export {
  authInterceptor,
  bearerToken,
  loggingInterceptor,
  metricsInterceptor,
  validationInterceptor,
  type Authenticate,
  type CallMetrics,
} from "./interceptors.ts";
export { Invoker, type Call, type Interceptor, type InvokerOptions, type Outcome } from "./invoker.ts";
export { serveHttp, type HttpServer, type HttpServerConfig, type HttpServerDeps } from "./http/server.ts";
export { PROBLEM_TYPE, problemOf, type Problem } from "./http/problem.ts";
export { openApiDocument, type OpenApiInfo } from "./openapi.ts";
