/**
 * Label selectors: `a=b,c!=d,e in (x,y),f notin (z),g,!h`, all of which must hold. Kubernetes' grammar and meaning: `!=`
 * and `notin` hold for what does not carry the label at all.
 */
import { StatusError } from "@berth/base";
import { labelKeyProblem, labelValueProblem } from "./names.ts";

export type Requirement =
  | { readonly key: string; readonly op: "in" | "notin"; readonly values: readonly string[] }
  | { readonly key: string; readonly op: "exists" | "absent" };

type Labels = Readonly<Record<string, string>>;

const TERM =
  /^\s*(?:(!)\s*([^\s!=,()]+)|([^\s!=,()]+)(?:\s*(==|=|!=)\s*([^\s!=,()]*)|\s+(in|notin)\s*\(([^()]*)\))?)\s*(,|$)/;

/** Parses a selector; the empty text has no requirements and selects everything. @throws INVALID_ARGUMENT `SELECTOR_INVALID` */
export function parseSelector(text: string): readonly Requirement[] {
  const requirements: Requirement[] = [];
  let rest = text;
  if (rest.trim() === "") return requirements;
  for (;;) {
    const match = TERM.exec(rest);
    if (match === null)
      throw wrong(
        text,
        `does not parse at ${JSON.stringify(rest.trim())}; write terms such as a=b, c!=d, e in (x,y), f, !g`,
      );
    requirements.push(requirementOf(match, text));
    rest = rest.slice(match[0].length);
    if (match[8] === "") return requirements;
    if (rest.trim() === "") throw wrong(text, "ends with a comma");
  }
}

export function selectorMatches(requirements: readonly Requirement[], labels: Labels): boolean {
  return requirements.every((requirement) => {
    const value = Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
    switch (requirement.op) {
      case "in":
        return value !== undefined && requirement.values.includes(value);
      case "notin":
        return value === undefined || !requirement.values.includes(value);
      case "exists":
        return value !== undefined;
      case "absent":
        return value === undefined;
    }
  });
}

/** A selector that `parseSelector` reads as the same requirements. */
export function formatSelector(requirements: readonly Requirement[]): string {
  return requirements.map(formatRequirement).join(",");
}

function formatRequirement(requirement: Requirement): string {
  switch (requirement.op) {
    case "exists":
      return requirement.key;
    case "absent":
      return `!${requirement.key}`;
    case "in":
    case "notin": {
      const { key, op, values } = requirement;
      if (values.length === 1) return `${key}${op === "in" ? "=" : "!="}${values[0]}`;
      return `${key} ${op} (${values.join(",")})`;
    }
  }
}

function requirementOf(match: RegExpExecArray, text: string): Requirement {
  const [, , absentKey, termKey, operator, value, setOperator, set] = match;
  const key = absentKey ?? termKey!;
  const problem = labelKeyProblem(key);
  if (problem !== undefined) throw wrong(text, `has the key ${JSON.stringify(key)}, which ${problem}`);
  if (absentKey !== undefined) return { key, op: "absent" };
  if (setOperator !== undefined) {
    const values = set!.split(",").map((item) => item.trim());
    return { key, op: setOperator as "in" | "notin", values: values.map((item) => checkValue(item, text)) };
  }
  if (operator === undefined) return { key, op: "exists" };
  return { key, op: operator === "!=" ? "notin" : "in", values: [checkValue(value!, text)] };
}

function checkValue(value: string, text: string): string {
  const problem = labelValueProblem(value);
  if (problem !== undefined) throw wrong(text, `has the value ${JSON.stringify(value)}, which ${problem}`);
  return value;
}

function wrong(text: string, why: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", `selector ${JSON.stringify(text)} ${why}`, { reason: "SELECTOR_INVALID" });
}
