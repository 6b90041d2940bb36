/** What is to be asked of a container, as the engine knows it: every default filled in. Part of the stored plan. */

export type ProbeCheck =
  | { readonly kind: "exec"; readonly command: readonly string[] }
  | { readonly kind: "http"; readonly port: number; readonly path: string }
  | { readonly kind: "tcp"; readonly port: number };

export interface ProbePlan {
  readonly check: ProbeCheck;
  readonly initialDelayMs: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly failureThreshold: number;
  readonly successThreshold: number;
}

export interface HealthPlan {
  readonly startup?: ProbePlan;
  readonly readiness?: ProbePlan;
  readonly liveness?: ProbePlan;
}

/**
 * What is known of a running container, kept with its row. `failed`: it is to be ended, and its end is a failure. The others
 * are the journal's words.
 */
export type Health = "" | "starting" | "healthy" | "unhealthy" | "failed";

/** What a container's health is at its start. */
export function healthAtStart(plan: HealthPlan | undefined): Health {
  if (plan === undefined) return "";
  return plan.startup === undefined && plan.readiness === undefined ? "healthy" : "starting";
}
