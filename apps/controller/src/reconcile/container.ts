/** What a workload's container says, as the columns of its tasks. */
import { equals, fromJson, toJson, type JsonObject } from "@bufbuild/protobuf";
import { parseCpu, parseMemory } from "@berth/model";
import { ContainerSpecSchema, type ContainerSpec } from "@berth/proto";

export interface ContainerColumns {
  readonly container: JsonObject;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly hostPorts: string[];
}

export function containerColumns(container: ContainerSpec): ContainerColumns {
  const { cpu = "", memory = "" } = container.resources ?? {};
  return {
    container: toJson(ContainerSpecSchema, container) as JsonObject,
    cpuMillis: cpu === "" ? 0 : parseCpu(cpu),
    memoryBytes: memory === "" ? 0 : parseMemory(memory),
    hostPorts: (container.network?.ports ?? []).map((port) => `${port.protocol || "tcp"}/${port.hostPort}`),
  };
}

/** Does a task run this container? */
export function sameContainer(stored: JsonObject, container: ContainerSpec): boolean {
  return equals(ContainerSpecSchema, fromJson(ContainerSpecSchema, stored, { ignoreUnknownFields: true }), container);
}
