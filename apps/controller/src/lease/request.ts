/** A lease request as columns. */
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { nodeNameProblem } from "@berth/model";
import { ConditionSchema, type Condition, type LeaseRequest } from "@berth/proto";
import type { LeaseRenewal } from "@berth/store";
import { partitionOf } from "../loop/partitions.ts";

/** @param node from the subject, which the broker has proven (D8). @throws INVALID_ARGUMENT, PERMISSION_DENIED */
export function renewalOf(node: string, request: LeaseRequest, shards: number, now = new Date()): LeaseRenewal {
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
    conditions: [...request.conditions, ...clockSkew(request, now)].map(asJson),
    cpuMillis: Number(capacity?.cpuMillis ?? 0n),
    memoryBytes: Number(capacity?.memoryBytes ?? 0n),
    maxTasks: capacity?.tasks ?? 0,
    diskBytes: Number(capacity?.diskBytes ?? 0n),
    runtimeHandlers: request.runtimeHandlers,
    snapshotters: request.snapshotters,
    agentVersion: request.agentVersion,
    features: request.features,
    kernelVersion: request.kernelVersion,
    address: request.address,
    bootId: request.bootId,
    instance: request.instance,
    journalEpoch: request.journalEpoch,
    journalHeadSeq: Number(request.journalHeadSeq),
    appliedRevision: Number(request.appliedRevision),
    takenRevision: Number(request.takenRevision),
    appliedStoreEpoch: request.storeEpoch,
    shard: partitionOf(node, shards),
    machineId: request.machineId,
  };
}

/**
 * All that a request says of its node but what every renewal says anew (`leaseEndpoint.news`): how far journal and assignments are,
 * and when it was sent. Two requests of the same facts, by clocks that are as wrong, become the same columns.
 */
export function factsOf(request: LeaseRequest): string {
  const { capacity, conditions } = request;
  return JSON.stringify([
    request.node,
    request.instance,
    request.bootId,
    request.machineId,
    request.journalEpoch,
    request.agentVersion,
    request.features,
    request.kernelVersion,
    request.address,
    request.labels,
    capacity && [`${capacity.cpuMillis} ${capacity.memoryBytes} ${capacity.diskBytes}`, capacity.tasks],
    request.runtimeHandlers,
    request.snapshotters,
    conditions.map(({ type, status, reason, message }) => [type, status, reason, message]),
  ]);
}

/** A wall clock that is further off than this is wrong: certificates and people are misled. Leases do not depend on it. */
const WRONG_CLOCK_MS = 5_000;

function clockSkew(request: LeaseRequest, now: Date): Condition[] {
  const seconds = wrongBySeconds(request, now);
  if (seconds === undefined) return [];
  const wrong = seconds !== 0;
  const message = wrong
    ? `the node's clock is about ${Math.abs(seconds)} s ${seconds > 0 ? "ahead" : "behind"}: set it by NTP`
    : "";
  const fields = { type: "ClockSkew", status: wrong ? "True" : "False", reason: wrong ? "ClockWrong" : "ClockAgrees" };
  return [create(ConditionSchema, { ...fields, message })];
}

/** How far the node's clock is ahead, 0 when it agrees well enough; undefined when it was not told. */
export function wrongBySeconds({ sentAt }: LeaseRequest, now = new Date()): number | undefined {
  if (sentAt === undefined) return undefined;
  const aheadMs = timestampMs(sentAt) - now.getTime();
  return Math.abs(aheadMs) > WRONG_CLOCK_MS ? Math.round(aheadMs / 1_000) : 0;
}

const asJson = (condition: Condition): JsonObject => toJson(ConditionSchema, condition) as JsonObject;
