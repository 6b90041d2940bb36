/** A route made ready for use: full URLs, defaults filled in, the origin appended where it may be asked. */
import type { RegistryHost } from "../registry.ts";
import type { ClientCertificate, EndpointCapability, RegistryRoute, RouteBudgets, RouteOrigin } from "./route.ts";

/** Structured-cloneable; secret where it has a client certificate or headers. */
export interface Endpoint {
  /** The registry in whose place it answers, as in image references. */
  readonly registry: string;
  /** `https://host:port` */
  readonly origin: string;
  /** `host[:port]` of the origin: whose credentials it gets. */
  readonly host: string;
  /** Path of the API's root without a slash at its end: `/v2`. */
  readonly apiRoot: string;
  /** Is it the registry itself? */
  readonly isOrigin: boolean;
  readonly capabilities: readonly EndpointCapability[];
  readonly ca: readonly string[];
  readonly client: readonly ClientCertificate[];
  readonly skipVerify: boolean;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly dialTimeoutMs: number | undefined;
  readonly budgets: RouteBudgets;
  /** Where it is configured, for errors; undefined for a registry that nobody configured. */
  readonly source: string | undefined;
}

const MIRROR: readonly EndpointCapability[] = ["pull", "resolve", "referrers"];
const ALL: readonly EndpointCapability[] = ["pull", "resolve", "push", "referrers"];

/** The endpoints of a registry in order; never empty. @param known how the agent's configuration says to reach hosts */
export function endpointsOf(
  registry: string,
  route: RegistryRoute | undefined,
  known: (host: string) => RegistryHost | undefined,
): Endpoint[] {
  const { budgets = {}, source } = route ?? {};
  const make = (given: RouteOrigin, isOrigin: boolean): Endpoint => {
    const url = new URL(given.url ?? ownUrl(registry, known(registry)));
    const host = known(url.host) ?? (isOrigin ? known(registry) : undefined);
    return {
      registry,
      origin: url.origin,
      host: url.host,
      apiRoot: apiRoot(url.pathname, given.overridePath === true),
      isOrigin,
      capabilities: given.capabilities ?? (isOrigin ? ALL : MIRROR),
      ca: given.ca ?? (host?.ca === undefined ? [] : [host.ca]),
      client: given.client ?? [],
      skipVerify: given.skipVerify ?? false,
      headers: headersOf(given),
      dialTimeoutMs: given.dialTimeoutMs,
      budgets,
      source,
    };
  };
  const endpoints = (route?.endpoints ?? []).map((endpoint) => make(endpoint, false));
  if (route?.fallbackToOrigin === false) return endpoints;
  return [...endpoints, make(route?.origin ?? {}, true)];
}

/** Does the endpoint serve several registries, so that it must be told which one is meant? */
export function wantsNamespace(endpoint: Endpoint): boolean {
  return endpoint.host !== defaultHost(endpoint.registry);
}

/** Under which names credentials for this endpoint may be configured, most exact first. */
export function credentialHosts(endpoint: Endpoint): readonly string[] {
  return endpoint.host === DOCKER_HUB ? [DOCKER_HUB, "docker.io"] : [endpoint.host];
}

/** Docker Hub's API lives under another name than its images. */
const DOCKER_HUB = "registry-1.docker.io";

function defaultHost(registry: string): string {
  return registry === "docker.io" ? DOCKER_HUB : registry;
}

function ownUrl(registry: string, host: RegistryHost | undefined): string {
  return `${host?.plainHttp === true ? "http" : "https"}://${defaultHost(registry)}`;
}

function apiRoot(path: string, override: boolean): string {
  const clean = path.replaceAll(/\/{2,}/g, "/").replace(/\/$/, "");
  return override || clean.endsWith("/v2") ? clean : `${clean}/v2`;
}

function headersOf({ headers = {} }: RouteOrigin): Endpoint["headers"] {
  return Object.fromEntries(
    Object.entries(headers).map(([name, values]) => [
      name.toLowerCase(),
      values.length === 1 ? values[0]! : [...values],
    ]),
  );
}
