export {
  etcFiles,
  hostNameservers,
  readSpec,
  removeBundle,
  writeEtcFiles,
  writeSpec,
  type EtcContent,
} from "./bundle.ts";
export { LogLineParser, type LogLine } from "./log-lines.ts";
export { readLog, type ReadLogOptions } from "./log-reader.ts";
export { rotateLog, type RotateLogOptions } from "./log-rotate.ts";
export { initPidFile } from "./oci/layout.ts";
export type { OciRuntimeDeps, OciRuntimeOptions } from "./oci/options.ts";
export { createOciRuntime } from "./oci/runtime.ts";
export type {
  ContainerExit,
  ContainerHandle,
  ContainerInput,
  ContainerInputMode,
  ContainerState,
  ContainerStats,
  ContainerStatus,
  CreateRequest,
  ExecProcess,
  ExecRequest,
  Runtime,
} from "./runtime.ts";
export { CAPABILITIES } from "./spec/capabilities.ts";
export type { ContainerConfig, ContainerDevice, ContainerMount, ContainerResources } from "./spec/container-config.ts";
export { generateSpec, type SpecInput } from "./spec/generate.ts";
export { readHostFacts, type HostFacts } from "./spec/host-facts.ts";
export type { EtcFiles } from "./spec/mounts.ts";
export type { OciMount, OciProcess, OciSpec } from "./spec/oci-spec.ts";
export { DEFAULT_SECCOMP_PROFILE } from "./spec/seccomp.ts";
