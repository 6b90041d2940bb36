/** What a server of gRPC alone needs, without the HTTP gateway and what that brings: `@berth/rpc/grpc`. */
export { serveGrpc, type GrpcAddress, type GrpcServer, type GrpcServerConfig } from "./grpc/server.ts";
export { loggingInterceptor, validationInterceptor } from "./interceptors.ts";
export { Invoker, type Interceptor, type InvokerOptions } from "./invoker.ts";
