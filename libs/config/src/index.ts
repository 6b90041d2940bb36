export { hostSocketOf, loadAgentConfig, type AgentConfig } from "./agent.ts";
export { loadControllerConfig, type ControllerConfig } from "./controller.ts";
export { parseHostPort } from "./fields.ts";
export type { ConfigSource } from "./resolve.ts";
export { loadSimulationProfile, type ProfileSource, type SimulationProfile, type SimulationRange } from "./simulate.ts";
