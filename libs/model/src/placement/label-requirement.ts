/** Conditions on a node's labels, with Kubernetes' operators and meanings: `NotIn` and `DoesNotExist` hold without the label. */

export const LABEL_OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] as const;
export type LabelOperator = (typeof LABEL_OPERATORS)[number];

export interface LabelRequirement {
  readonly key: string;
  readonly operator: LabelOperator;
  readonly values: readonly string[];
}

type Labels = Readonly<Record<string, string>>;

export function meetsRequirement({ key, operator, values }: LabelRequirement, labels: Labels): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
    case "Lt":
      return value !== undefined && compares(value, operator, values[0] ?? "");
  }
}

/** `disk in (ssd, nvme)`, `!spot`, `cores > 8`. */
export function formatRequirement({ key, operator, values }: LabelRequirement): string {
  switch (operator) {
    case "In":
      return values.length === 1 ? `${key}=${values[0]}` : `${key} in (${values.join(",")})`;
    case "NotIn":
      return values.length === 1 ? `${key}!=${values[0]}` : `${key} notin (${values.join(",")})`;
    case "Exists":
      return key;
    case "DoesNotExist":
      return `!${key}`;
    case "Gt":
      return `${key}>${values[0]}`;
    case "Lt":
      return `${key}<${values[0]}`;
  }
}

/** How the values of a requirement are wrong; undefined when they are right. */
export function requirementProblem({ operator, values }: LabelRequirement): string | undefined {
  switch (operator) {
    case "In":
    case "NotIn":
      return values.length === 0 ? `${operator} needs at least one value` : undefined;
    case "Exists":
    case "DoesNotExist":
      return values.length > 0 ? `${operator} takes no values; leave them out` : undefined;
    case "Gt":
    case "Lt":
      return values.length === 1 && INTEGER.test(values[0]!) ? undefined : `${operator} needs one whole number`;
  }
}

const INTEGER = /^-?\d{1,15}$/;

/** A label that is no whole number is neither greater nor less. */
function compares(value: string, operator: "Gt" | "Lt", bound: string): boolean {
  if (!INTEGER.test(value) || !INTEGER.test(bound)) return false;
  return operator === "Gt" ? Number(value) > Number(bound) : Number(value) < Number(bound);
}
