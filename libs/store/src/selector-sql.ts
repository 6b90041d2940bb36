/** A label selector as a condition on a jsonb column of labels; the same meaning as the model's `selectorMatches`. */
import type { Requirement } from "@berth/model";
import { and, sql, type SQL, type SQLWrapper } from "drizzle-orm";

export function selectorSql(column: SQLWrapper, requirements: readonly Requirement[]): SQL | undefined {
  return and(...requirements.map((requirement) => requirementSql(column, requirement)));
}

/** Nodes that carry all of these labels. */
export function labelsContain(column: SQLWrapper, labels: Readonly<Record<string, string>>): SQL {
  return sql`${column} @> ${JSON.stringify(labels)}::jsonb`;
}

function requirementSql(column: SQLWrapper, requirement: Requirement): SQL {
  const { key } = requirement;
  switch (requirement.op) {
    case "exists":
      return sql`jsonb_exists(${column}, ${key})`;
    case "absent":
      return sql`not jsonb_exists(${column}, ${key})`;
    case "in":
      return sql`${column} ->> ${key} in (select jsonb_array_elements_text(${JSON.stringify(requirement.values)}::jsonb))`;
    case "notin":
      return sql`coalesce(${column} ->> ${key} not in
        (select jsonb_array_elements_text(${JSON.stringify(requirement.values)}::jsonb)), true)`;
  }
}
