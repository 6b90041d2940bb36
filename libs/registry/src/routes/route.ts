/**
 * Where a registry's content is asked for: mirrors in order, then the registry itself.
 *
 * A route is plain data (structured-cloneable, JSON but for its PEM texts' size), so that it can come from an operator's
 * hosts.toml as well as from the controller, and go along into worker threads. `validateRoute` guards the second way.
 */
export const ENDPOINT_CAPABILITIES = ["pull", "resolve", "push", "referrers"] as const;
/** `resolve`: its word for what a tag points to is taken. `pull`: content by digest comes from it. */
export type EndpointCapability = (typeof ENDPOINT_CAPABILITIES)[number];

export interface ClientCertificate {
  /** PEM texts. */
  readonly cert: string;
  readonly key: string;
}

export interface RegistryEndpoint {
  /** `https://host[:port][/path]`, or `http:` for plain HTTP. `/v2` is added to the path unless `overridePath`. */
  readonly url: string;
  readonly overridePath?: boolean;
  /** Default: all but push for a mirror, all for the origin. */
  readonly capabilities?: readonly EndpointCapability[];
  /** PEM texts, trusted beside the public roots. */
  readonly ca?: readonly string[];
  readonly client?: readonly ClientCertificate[];
  /** Takes any certificate. */
  readonly skipVerify?: boolean;
  /** Sent with every request to this endpoint, and to no other. */
  readonly headers?: Readonly<Record<string, readonly string[]>>;
  readonly dialTimeoutMs?: number;
}

export type RouteOrigin = Omit<RegistryEndpoint, "url"> & Partial<Pick<RegistryEndpoint, "url">>;

/** How long an endpoint may take before the next one is asked. The last one has the client's own, longer limits. */
export interface RouteBudgets {
  readonly dialMs?: number;
  /** From the request to the answer's header. */
  readonly answerMs?: number;
  /** A body that brings next to nothing for so long is given up. */
  readonly stallMs?: number;
}

export interface RegistryRoute {
  /** `host[:port]` as in image references; `_default` for every registry without a route of its own. */
  readonly registry: string;
  /** Asked in this order. */
  readonly endpoints: readonly RegistryEndpoint[];
  /** How the registry itself is reached; without a URL, under its own name. */
  readonly origin?: RouteOrigin;
  /** Is the registry itself asked when no endpoint has an answer? Default true. */
  readonly fallbackToOrigin?: boolean;
  readonly budgets?: RouteBudgets;
  /** Names the route in errors: a file, or a resource. */
  readonly source?: string;
}
