/**
 * A RegistryMirror resource as a route. The one place where its fields get their meaning: the controller checks with it what
 * is applied, and nodes pull by it.
 */
import { create } from "@bufbuild/protobuf";
import { durationMs, type Duration } from "@bufbuild/protobuf/wkt";
import type { FieldViolation } from "@berth/base";
import {
  MirrorEndpointSchema,
  RegistryMirrorSchema,
  type MirrorClient,
  type MirrorEndpoint,
  type MirrorHeader,
  type MirrorOrigin,
  type RegistryMirror,
  type RegistryMirrorSpec,
} from "@berth/proto";
import type { ClientCertificate, EndpointCapability, RegistryRoute, RouteBudgets, RouteOrigin } from "./route.ts";
import { validateRoute } from "./validate.ts";

/** Gives a client certificate by where it lies on this node. May throw. */
export type ReadClient = (client: MirrorClient) => ClientCertificate;

/** @throws what `readClient` throws */
export function routeOfMirror({ metadata, spec }: RegistryMirror, readClient: ReadClient): RegistryRoute {
  const { registry, endpoints, origin, fallbackToOrigin, budgets } = spec!;
  const route: RegistryRoute = {
    registry,
    endpoints: endpoints.map((endpoint) => ({ ...endpointOf(endpoint, readClient), url: endpoint.url })),
    source: `RegistryMirror ${metadata?.name ?? ""}`,
  };
  return {
    ...route,
    ...(origin === undefined ? {} : { origin: originOf(origin, readClient) }),
    ...(fallbackToOrigin === undefined ? {} : { fallbackToOrigin }),
    ...(budgets === undefined
      ? {}
      : { budgets: budgetsOf({ dialMs: budgets.dial, answerMs: budgets.answer, stallMs: budgets.stall }) }),
  };
}

function originOf(origin: MirrorOrigin, readClient: ReadClient): RouteOrigin {
  const { $typeName: _, ...fields } = origin;
  const endpoint = endpointOf(create(MirrorEndpointSchema, fields), readClient);
  return origin.url === "" ? endpoint : { ...endpoint, url: origin.url };
}

/** What a user left out is left to the client's defaults. */
function endpointOf(endpoint: MirrorEndpoint, readClient: ReadClient): Omit<RouteOrigin, "url"> {
  const { overridePath, capabilities, ca, client, skipVerify, headers, dialTimeout } = endpoint;
  return {
    overridePath,
    skipVerify,
    ...(capabilities.length === 0 ? {} : { capabilities: capabilities as EndpointCapability[] }),
    ...(ca.length === 0 ? {} : { ca: [...ca] }),
    ...(client.length === 0 ? {} : { client: client.map(readClient) }),
    ...(headers.length === 0 ? {} : { headers: headersOf(headers) }),
    ...(dialTimeout === undefined ? {} : { dialTimeoutMs: durationMs(dialTimeout) }),
  };
}

function headersOf(headers: readonly MirrorHeader[]): Record<string, string[]> {
  const all: Record<string, string[]> = {};
  for (const { name, value } of headers) (all[name] ??= []).push(value);
  return all;
}

function budgetsOf(given: Readonly<Record<keyof RouteBudgets, Duration | undefined>>): RouteBudgets {
  const set = Object.entries(given).flatMap(([name, duration]) =>
    duration === undefined ? [] : [[name, durationMs(duration)] as const],
  );
  return Object.fromEntries(set);
}

/** Read by everybody who may read the resource. */
const SECRET_HEADERS = new Set(["authorization", "proxy-authorization", "cookie"]);

/** What is wrong with a mirror, by the fields of its spec; empty when nodes can use it. */
export function mirrorProblems(spec: RegistryMirrorSpec): FieldViolation[] {
  // The files lie on the nodes; only they can look into them.
  const withoutFiles = routeOfMirror(create(RegistryMirrorSchema, { spec }), () => ({ cert: "", key: "" }));
  const route = { ...withoutFiles, endpoints: withoutFiles.endpoints.map(unclient) };
  const checked = route.origin === undefined ? route : { ...route, origin: unclient(route.origin) };
  const parts = [
    ...spec.endpoints.map((endpoint, index) => ({ at: `spec.endpoints[${index}]`, headers: endpoint.headers })),
    { at: "spec.origin", headers: spec.origin?.headers ?? [] },
  ];
  const secrets = parts.flatMap(({ at, headers }) =>
    headers.flatMap(({ name }, index) =>
      SECRET_HEADERS.has(name.toLowerCase())
        ? [{ field: `${at}.headers[${index}].name`, description: `is ${name}, which carries credentials: ${INSTEAD}` }]
        : [],
    ),
  );
  return [...validateRoute(checked).map(asSpecField), ...secrets];
}

const INSTEAD = "give those to the nodes, by their certs.d folder or dockerConfig";

function unclient<T extends { readonly client?: unknown }>({ client: _, ...endpoint }: T): Omit<T, "client"> {
  return endpoint;
}

const FIELD_OF: Readonly<Record<string, string>> = {
  dialTimeoutMs: "dialTimeout",
  dialMs: "dial",
  answerMs: "answer",
  stallMs: "stall",
};

function asSpecField({ field, description }: FieldViolation): FieldViolation {
  const named = field.replaceAll(/\b(dialTimeoutMs|dialMs|answerMs|stallMs)\b/g, (word) => FIELD_OF[word] ?? word);
  return { field: `spec.${named}`, description };
}
