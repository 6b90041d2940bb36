/** The places of flow A at which the chaos tests kill the controller, in the order in which an apply passes them. */
export const FLOW_A_FAILPOINTS = [
  "api.after-commit",
  "reconcile.after-tasks",
  "placement.before-commit",
  "placement.after-assign",
  "dispatch.before-add",
  "dispatch.after-add",
  "ingest.before-store",
  "ingest.after-store",
] as const;
