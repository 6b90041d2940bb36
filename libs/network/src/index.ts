export { createNetwork } from "./cni/network.ts";
export type { CniNetworkOptions, NetworkDeps } from "./cni/options.ts";
export { networkMigrations } from "./cni/records.ts";
export type { AttachRequest, Attachment, Network, NetworkMode, PortMapping } from "./network.ts";
