/** What findings are made from, how one is made and worded; what is found is in `control-findings.ts`, `node-findings.ts` and `work-findings.ts`. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { FindingSchema, type Finding } from "@berth/proto";
import type { CheckResult } from "../http/checks.ts";
import type { EvictionConfig } from "../reconcile/eviction.ts";
import type { FleetReadings } from "./readings.ts";

export interface FindingsInput extends FleetReadings {
  readonly checks: readonly CheckResult[];
  /** As the reconciler has it: which silent nodes' tasks are not replaced follows from it. */
  readonly eviction: EvictionConfig;
  readonly now: Date;
}

export type FindingInit = Exclude<MessageInitShape<typeof FindingSchema>, Finding>;

export function finding(init: FindingInit): Finding {
  return create(FindingSchema, init);
}

export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

export function sinceOf(date: Date | null | undefined): { readonly since?: Timestamp } {
  return date === null || date === undefined ? {} : { since: timestampFromDate(date) };
}

export function untilOf(date: Date | undefined): { readonly until?: Timestamp } {
  return date === undefined ? {} : { until: timestampFromDate(date) };
}
