/** What clients need: light, without the servers. Those are in `@berth/rpc/server`. */
export {
  createGrpcClient,
  type CallOptions,
  type ClientMethod,
  type GrpcClient,
  type GrpcClientOptions,
} from "./grpc/client.ts";
export { manifestSchema, type JsonSchema } from "./json-schema.ts";
export { checkJsonShape } from "./json-shape.ts";
export {
  implement,
  methodName,
  type CallContext,
  type Handler,
  type Handlers,
  type Implementation,
  type Principal,
} from "./service.ts";
export { defaultWord } from "./rules.ts";
export { checkMessage, validateRequest } from "./validate.ts";
