/**
 * The OpenAPI 3.1 document of the gateway, from the same annotations as the gateway itself.
 *
 * Streams are documented by their messages: a line each as NDJSON, an event each for EventSource.
 */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { routesOf, type Route } from "./http/routes.ts";
import { collectSchemas, commentOf, fieldSchema, type JsonSchema, type MessageSchemaOptions } from "./json-schema.ts";

const options: MessageSchemaOptions = { refPrefix: "#/components/schemas/", forInput: false };

export interface OpenApiInfo {
  readonly version: string;
  /** Methods that need no token. */
  readonly open: readonly DescMethod[];
}

export function openApiDocument(services: readonly DescService[], info: OpenApiInfo): JsonSchema {
  const schemas: Record<string, JsonSchema> = { Problem: PROBLEM };
  const paths: Record<string, Record<string, JsonSchema>> = {};
  for (const route of routesOf(services)) {
    const path = pathOf(route);
    paths[path] ??= {};
    paths[path][route.binding.method.toLowerCase()] = operation(route, info);
    collectSchemas(route.rpc.output, options, schemas);
    const body = bodyMessage(route);
    if (body !== undefined) collectSchemas(body, options, schemas);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Berth",
      version: info.version,
      description: "The fleet API of a Berth controller: the HTTP/JSON form of the gRPC services in berth.v1.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    security: [{ token: [] }],
    tags: services.map((service) => tagOf(service)),
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer", description: "A token `brt_<id>_<secret>`." } },
      schemas,
    },
  };
}

function tagOf(service: DescService): JsonSchema {
  const description = commentOf(service.typeName);
  return { name: service.name, ...(description === undefined ? {} : { description }) };
}

function operation(route: Route, info: OpenApiInfo): JsonSchema {
  const { rpc } = route;
  const description = commentOf(`${rpc.parent.typeName}.${rpc.name}`);
  const body = requestBody(route);
  return {
    operationId: rpc.name,
    tags: [rpc.parent.name],
    ...(description === undefined ? {} : { description }),
    ...(info.open.includes(rpc) ? { security: [] } : {}),
    parameters: parameters(route),
    ...(body === undefined ? {} : { requestBody: body }),
    responses: {
      "200": { description: "OK", content: replyContent(rpc) },
      default: {
        description: "An error, as RFC 9457 has it",
        content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    },
  };
}

function replyContent(rpc: DescMethod): JsonSchema {
  const schema = { $ref: `#/components/schemas/${rpc.output.name}` };
  if (rpc.methodKind !== "server_streaming") return { "application/json": { schema } };
  return { "application/x-ndjson": { schema }, "text/event-stream": { schema } };
}

/** `{campaign.metadata.name}` is called `campaign.metadata.name`: names of parameters may have dots. */
function pathOf({ binding }: Route): string {
  return binding.template;
}

function parameters(route: Route): JsonSchema[] {
  const inPath = route.segments.flatMap((segment) => ("field" in segment ? [segment.field] : []));
  const bound = new Set(inPath.map((path) => path[0]));
  const path = inPath.map((field) => ({
    name: field.join("."),
    in: "path",
    required: true,
    ...schemaAt(route.rpc, field),
  }));
  if (route.binding.body === "*") return path;
  const query = route.rpc.input.fields
    .filter((field) => !bound.has(field.name) && field.name !== route.binding.body)
    .map((field) => {
      const { description, ...schema } = fieldSchema(field, options);
      return { name: field.jsonName, in: "query", ...(description === undefined ? {} : { description }), schema };
    });
  return [...path, ...query];
}

function schemaAt(rpc: DescMethod, path: readonly string[]): JsonSchema {
  let message = rpc.input;
  for (const [index, name] of path.entries()) {
    const field = message.fields.find((candidate) => candidate.name === name)!;
    if (index < path.length - 1) message = field.message!;
    else {
      const { description, ...schema } = fieldSchema(field, options);
      return { ...(description === undefined ? {} : { description }), schema };
    }
  }
  return {};
}

function bodyMessage({ rpc, binding }: Route): DescMethod["input"] | undefined {
  if (binding.body === "*") return rpc.input;
  return rpc.input.fields.find((field) => field.name === binding.body)?.message;
}

function requestBody(route: Route): JsonSchema | undefined {
  const message = bodyMessage(route);
  if (message === undefined) return undefined;
  return {
    required: route.binding.body !== "*",
    content: { "application/json": { schema: { $ref: `#/components/schemas/${message.name}` } } },
  };
}

const PROBLEM: JsonSchema = {
  description: "RFC 9457, with gRPC's code and a stable reason for programs.",
  type: "object",
  required: ["type", "title", "status", "detail", "code", "reason"],
  properties: {
    type: { type: "string" },
    title: { type: "string" },
    status: { type: "integer" },
    detail: { type: "string", description: "What is wrong and what to do, for people." },
    code: { type: "string", description: "A gRPC status code's name." },
    reason: { type: "string", description: "A stable name, such as FIELD_INVALID." },
    violations: {
      type: "array",
      items: {
        type: "object",
        required: ["field", "description"],
        properties: { field: { type: "string" }, description: { type: "string" } },
      },
    },
    details: { type: "object" },
    requestId: { type: "string", description: "Also in the controller's log." },
  },
};
