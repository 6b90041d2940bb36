/** The guard before routes that came from outside as data, such as a RegistryMirror resource. */
import type { FieldViolation } from "@berth/base";
import { endpointProblems, isRecord, Problems } from "./checks.ts";

const FIELDS = ["registry", "endpoints", "origin", "fallbackToOrigin", "budgets", "source"];
const BUDGETS = ["dialMs", "answerMs", "stallMs"];
const MAX_ENDPOINTS = 32;
const MAX_BUDGET_MS = 3_600_000;
const REGISTRY = /^(_default|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?|\[[0-9a-fA-F:]+\](:\d{1,5})?)$/;

/** What is wrong with a route from outside; empty when it can be used. `field` prefixes the fields' names. */
export function validateRoute(value: unknown, field = ""): FieldViolation[] {
  const problems = new Problems(field);
  if (!isRecord(value)) return problems.add("", "is not an object").list;
  problems.unknownFields("", value, FIELDS);
  const { registry, endpoints, origin, fallbackToOrigin, budgets, source } = value;
  if (typeof registry !== "string" || !REGISTRY.test(registry)) {
    problems.add("registry", 'is not a registry\'s host or host:port, such as docker.io, or "_default"');
  }
  if (!Array.isArray(endpoints)) problems.add("endpoints", "is not a list");
  else if (endpoints.length > MAX_ENDPOINTS) problems.add("endpoints", `has more than ${MAX_ENDPOINTS} entries`);
  else endpoints.forEach((endpoint, index) => endpointProblems(problems, `endpoints[${index}]`, endpoint));
  if (origin !== undefined) endpointProblems(problems, "origin", origin, false);
  problems.optional("fallbackToOrigin", fallbackToOrigin, "boolean");
  problems.optional("source", source, "string");
  if (fallbackToOrigin === false && Array.isArray(endpoints) && endpoints.length === 0) {
    problems.add("fallbackToOrigin", "is false without any endpoint, so nothing could ever be pulled");
  }
  if (budgets !== undefined && !isRecord(budgets)) problems.add("budgets", "is not an object");
  if (isRecord(budgets)) {
    problems.unknownFields("budgets", budgets, BUDGETS);
    for (const name of BUDGETS) problems.optionalMs(`budgets.${name}`, budgets[name], MAX_BUDGET_MS);
  }
  return problems.list;
}
