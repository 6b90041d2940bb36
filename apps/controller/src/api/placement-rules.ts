/** What no single field's rule can say of a workload's placement. */
import type { FieldViolation } from "@berth/base";
import { requirementProblem } from "@berth/model";
import type { LabelRequirement, Placement, SpreadConstraint, Toleration } from "@berth/proto";

const PATH = "spec.placement";

/** @param everyNode the workload runs on every node: nothing is spread, and there is no gang */
export function placementViolations(placement: Placement | undefined, everyNode: boolean): FieldViolation[] {
  if (placement === undefined) return [];
  const { nodeAffinity, tolerations, spread, gang } = placement;
  const terms = [
    ...(nodeAffinity?.required ?? []).map(({ match }, index) => ({ match, at: `required[${index}]` })),
    ...(nodeAffinity?.preferred ?? []).map(({ match }, index) => ({ match, at: `preferred[${index}]` })),
  ];
  const everywhere = { description: "says nothing for everyNode, which has one on each; leave it out" };
  return [
    ...terms.flatMap(({ match, at }) => requirementViolations(match, `${PATH}.nodeAffinity.${at}.match`)),
    ...tolerations.flatMap((toleration, index) => tolerationViolations(toleration, `${PATH}.tolerations[${index}]`)),
    ...spreadViolations(spread),
    ...(everyNode && spread.length > 0 ? [{ field: `${PATH}.spread`, ...everywhere }] : []),
    ...(everyNode && gang ? [{ field: `${PATH}.gang`, ...everywhere }] : []),
  ];
}

function requirementViolations(match: readonly LabelRequirement[], path: string): FieldViolation[] {
  return match.flatMap(({ key, operator, values }, index) => {
    const problem = requirementProblem({ key, operator: (operator || "In") as "In", values });
    return problem === undefined ? [] : [{ field: `${path}[${index}].values`, description: problem }];
  });
}

function tolerationViolations(
  { key, operator, value, effect, tolerateFor }: Toleration,
  path: string,
): FieldViolation[] {
  if (key === "" && operator !== "Exists") {
    return [{ field: `${path}.key`, description: "is missing; to tolerate every taint, say operator: Exists" }];
  }
  if (operator === "Exists" && value !== "") {
    return [{ field: `${path}.value`, description: "says nothing with Exists; leave it out, or say Equal" }];
  }
  if (tolerateFor !== undefined && effect !== "NoExecute") {
    return [
      { field: `${path}.tolerateFor`, description: "is for NoExecute alone; say effect: NoExecute, or leave it out" },
    ];
  }
  return [];
}

function spreadViolations(spread: readonly SpreadConstraint[]): FieldViolation[] {
  return spread.flatMap(({ topologyKey }, index) => {
    const first = spread.findIndex((each) => each.topologyKey === topologyKey);
    if (first === index) return [];
    const description = `repeats ${JSON.stringify(topologyKey)} of ${PATH}.spread[${first}]; leave one of them out`;
    return [{ field: `${PATH}.spread[${index}].topologyKey`, description }];
  });
}
