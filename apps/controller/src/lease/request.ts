/** A lease request as columns. */
import { toJson, type JsonObject } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { nodeNameProblem } from "@berth/model";
import { ConditionSchema, type LeaseRequest } from "@berth/proto";
import type { LeaseRenewal } from "@berth/store";
import { partitionOf } from "../loop/partitions.ts";

/** @param node from the subject, which the broker has proven (D8). @throws INVALID_ARGUMENT, PERMISSION_DENIED */
export function renewalOf(node: string, request: LeaseRequest, shards: number): LeaseRenewal {
  if (request.node !== node) {
    throw new StatusError("PERMISSION_DENIED", `node ${node} asked for the lease of ${request.node || "nobody"}`, {
      reason: "LEASE_FOREIGN",
    });
  }
  const problem = nodeNameProblem(node);
  if (problem !== undefined) throw StatusError.invalid([{ field: "node", description: problem }], "LEASE_INVALID");
  if (request.instance === "" || request.bootId === "") {
    const field = request.instance === "" ? "instance" : "bootId";
    throw StatusError.invalid([{ field, description: "is missing" }], "LEASE_INVALID");
  }
  const { capacity } = request;
  return {
    name: node,
    agentLabels: request.labels,
    phase: request.conditions.some((each) => each.type === "Ready" && each.status === "False") ? "NotReady" : "Ready",
    conditions: request.conditions.map((condition) => toJson(ConditionSchema, condition) as JsonObject),
    cpuMillis: Number(capacity?.cpuMillis ?? 0n),
    memoryBytes: Number(capacity?.memoryBytes ?? 0n),
    maxTasks: capacity?.tasks ?? 0,
    diskBytes: Number(capacity?.diskBytes ?? 0n),
    runtimeHandlers: request.runtimeHandlers,
    snapshotters: request.snapshotters,
    agentVersion: request.agentVersion,
    kernelVersion: request.kernelVersion,
    address: request.address,
    bootId: request.bootId,
    instance: request.instance,
    journalEpoch: request.journalEpoch,
    journalHeadSeq: Number(request.journalHeadSeq),
    appliedRevision: Number(request.appliedRevision),
    appliedStoreEpoch: request.storeEpoch,
    shard: partitionOf(node, shards),
  };
}
