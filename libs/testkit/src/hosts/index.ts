export { createHosts, destroyHosts, hostsId, type Host, type Hosts, type HostsOptions } from "./hosts.ts";
