/** protobuf-es messages as grpc-js wants to serialise them. */
import { fromBinary, type DescMethod, type Message } from "@bufbuild/protobuf";
import type { MethodDefinition } from "@grpc/grpc-js";
import { encodeMessage } from "./encode.ts";

export function methodDefinition(method: DescMethod): MethodDefinition<Message, Message> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: (message) => encodeMessage(method.input, message),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (message) => encodeMessage(method.output, message),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}
