/** The client of a session, by itself (`@berth/registry/session`): a thread loads little, and so starts fast. */
import { HealthMemory } from "./health.ts";
import { owning, runtimeParts, type CommonParts, type RuntimeDeps } from "./http-client.ts";
import type { RegistryClient } from "./registry.ts";
import type { RegistrySession } from "./session.ts";

export type { RegistryClient, RegistrySession };

/** The client of a {@link RegistrySession}, for the worker thread that was handed one. */
export function openSession(session: RegistrySession, deps: RuntimeDeps = {}): RegistryClient {
  const { config, dockerConfig } = session;
  const common: CommonParts = {
    ...runtimeParts(deps, config),
    endpoints: () => session.endpoints,
    bandwidth: () => session.bandwidth,
    health: new HealthMemory(session.health),
    provider: undefined,
    dockerConfig,
  };
  return owning(common, "", session.hosts, session.authorisations);
}
