/** The parts of requests that many methods share: which namespace, which labels. */
import { StatusError } from "@berth/base";
import { nameProblem, parseSelector, type Requirement } from "@berth/model";
import type { Metadata } from "@berth/proto";

/** `{}` for `-`, which is all namespaces. @throws INVALID_ARGUMENT for what is no name */
export function namespaceScope(namespace: string): { namespace?: string } {
  if (namespace === "-") return {};
  const problem = nameProblem(namespace);
  if (problem === undefined) return { namespace };
  const description = `${JSON.stringify(namespace)} ${problem} (or "-" for all namespaces)`;
  throw StatusError.invalid([{ field: "namespace", description }]);
}

export function selectorScope(selector: string): { selector?: readonly Requirement[] } {
  return selector === "" ? {} : { selector: parseSelector(selector) };
}

/** The metadata of what is applied; for namespaced kinds with its namespace. @throws INVALID_ARGUMENT when it is missing */
export function appliedMetadata(metadata: Metadata | undefined, namespaced: boolean): Metadata {
  const violations = [
    ...(metadata === undefined || metadata.name === "" ? [{ field: "metadata.name", description: "is required" }] : []),
    ...(namespaced && (metadata === undefined || metadata.namespace === "")
      ? [{ field: "metadata.namespace", description: "is required; say which namespace it belongs to" }]
      : []),
    ...(!namespaced && metadata !== undefined && metadata.namespace !== ""
      ? [{ field: "metadata.namespace", description: "must be left out: this kind belongs to no namespace" }]
      : []),
  ];
  if (metadata === undefined || violations.length > 0) throw StatusError.invalid(violations);
  return metadata;
}
