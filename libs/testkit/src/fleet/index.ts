export { flushRedis, pushHelloImage } from "./fixtures.ts";
export { cgroupDirs, createAgentProcess, startAgent, type AgentProcess } from "./agent-process.ts";
export { runCli, type CliResult } from "./cli.ts";
export { createControllerProcess, type ControllerProcess } from "./controller-process.ts";
export { createSimulatorProcess, type SimulatorProcess, type SimulatorStatus } from "./simulator-process.ts";
export { checkoutBuild, releaseBuild, type Build } from "./programs.ts";
export { startFleet, type Fleet, type FleetOptions } from "./fleet.ts";
export { entriesBeneath, mountsBeneath, unmountTree } from "./leftovers.ts";
