/**
 * Decides over which endpoints a registry is reached: the operator's certs.d of this host wins over the controller's routes,
 * those over nothing but the registry itself. A source that speaks of a registry decides alone; nothing is merged.
 */
import { StatusError } from "@berth/base";
import type { RegistryHost } from "../registry.ts";
import type { CertsDir } from "./certs-dir.ts";
import { endpointsOf, type Endpoint } from "./endpoint.ts";
import type { RegistryRoute } from "./route.ts";
import { validateRoute } from "./validate.ts";

/** Asked at each use, so that routes may change at run time; gives the registry's route, or that of `_default`. */
export type RouteProvider = (registry: string) => RegistryRoute | undefined;

export interface RouterDeps {
  readonly hosts: readonly RegistryHost[];
  readonly certs: CertsDir | undefined;
  readonly routes: RouteProvider | undefined;
}

export class Router {
  readonly #deps: RouterDeps;
  /** Routes that were checked already. */
  readonly #valid = new WeakSet<RegistryRoute>();
  /** The last answer per registry: the same objects again while its route is the same, which keeps what is made of them. */
  readonly #last = new Map<
    string,
    { readonly route: RegistryRoute | undefined; readonly endpoints: readonly Endpoint[] }
  >();

  constructor(deps: RouterDeps) {
    this.#deps = deps;
  }

  /** Never empty. @throws INVALID_ARGUMENT `REGISTRY_CONFIG_INVALID` */
  endpoints(registry: string): readonly Endpoint[] {
    const { hosts, certs, routes } = this.#deps;
    const route = certs?.route(registry) ?? this.#checked(routes?.(registry));
    const last = this.#last.get(registry);
    if (last !== undefined && last.route === route) return last.endpoints;
    const known = (name: string): RegistryHost | undefined => hosts.find(({ host }) => host === name);
    const endpoints = endpointsOf(registry, route, known);
    this.#last.set(registry, { route, endpoints });
    return endpoints;
  }

  #checked(route: RegistryRoute | undefined): RegistryRoute | undefined {
    if (route === undefined || this.#valid.has(route)) return route;
    const violations = validateRoute(route);
    if (violations.length > 0) {
      const what = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
      const text = `route of registry ${route.registry} (${route.source ?? "of the controller"}): ${what}`;
      throw new StatusError("INVALID_ARGUMENT", text, { reason: "REGISTRY_CONFIG_INVALID", violations });
    }
    this.#valid.add(route);
    return route;
  }
}
