/**
 * From method and path to an RPC. Templates are those of the annotations: `/v1/nodes/{name}`, with a verb at the end where
 * an action is no noun (`/v1/nodes:watch`). Names have no colons, so the verb is what follows the last one.
 */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { httpBindingOf, type HttpBinding, type HttpMethod } from "../rules.ts";

export interface Route {
  readonly rpc: DescMethod;
  readonly binding: HttpBinding;
  readonly segments: readonly Segment[];
  readonly verb: string;
}

/** A fixed word, or the path of the request field that the segment fills. */
export type Segment = { readonly word: string } | { readonly field: readonly string[] };

export interface MatchedRoute {
  readonly route: Route;
  /** What the path says of the request, by field path. */
  readonly bound: readonly { readonly field: readonly string[]; readonly value: string }[];
}

export function routesOf(services: readonly DescService[]): Route[] {
  return services.flatMap((service) =>
    service.methods.flatMap((rpc) => {
      const binding = httpBindingOf(rpc);
      return binding === undefined ? [] : [{ rpc, binding, ...parseTemplate(binding.template) }];
    }),
  );
}

function parseTemplate(template: string): { segments: Segment[]; verb: string } {
  const { path, verb } = splitVerb(template);
  const segments = path
    .split("/")
    .slice(1)
    .map((part): Segment => {
      const field = /^\{([a-z0-9_.]+)\}$/.exec(part)?.[1];
      return field === undefined ? { word: part } : { field: field.split(".") };
    });
  return { segments, verb };
}

function splitVerb(path: string): { path: string; verb: string } {
  const colon = path.lastIndexOf(":");
  if (colon < 0 || path.indexOf("/", colon) >= 0) return { path, verb: "" };
  return { path: path.slice(0, colon), verb: path.slice(colon + 1) };
}

/**
 * @throws NOT_FOUND `ROUTE_UNKNOWN` when no route has the path; UNIMPLEMENTED `METHOD_NOT_ALLOWED`, naming the methods that
 * the path has in `details.allow`
 */
export function matchRoute(routes: readonly Route[], method: string, path: string): MatchedRoute {
  const { path: bare, verb } = splitVerb(path);
  const parts = bare.split("/").slice(1).map(decodeSegment);
  const allowed = new Set<HttpMethod>();
  for (const route of routes) {
    if (route.verb !== verb) continue;
    const bound = matchSegments(route.segments, parts);
    if (bound === undefined) continue;
    if (route.binding.method === method) return { route, bound };
    allowed.add(route.binding.method);
  }
  if (allowed.size > 0) {
    const allow = [...allowed].join(", ");
    throw new StatusError("UNIMPLEMENTED", `${method} is not a method of ${path}; use ${allow}`, {
      reason: "METHOD_NOT_ALLOWED",
      details: { allow },
    });
  }
  throw new StatusError("NOT_FOUND", `there is nothing at ${path}; /openapi.json lists what there is`, {
    reason: "ROUTE_UNKNOWN",
  });
}

function matchSegments(segments: readonly Segment[], parts: readonly string[]): MatchedRoute["bound"] | undefined {
  if (segments.length !== parts.length) return undefined;
  const bound: { field: readonly string[]; value: string }[] = [];
  for (const [index, segment] of segments.entries()) {
    const part = parts[index]!;
    if ("word" in segment) {
      if (segment.word !== part) return undefined;
    } else {
      if (part === "") return undefined;
      bound.push({ field: segment.field, value: part });
    }
  }
  return bound;
}

function decodeSegment(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new StatusError("INVALID_ARGUMENT", `path part ${JSON.stringify(part)} is not valid percent-encoding`, {
      reason: "PATH_INVALID",
    });
  }
}
