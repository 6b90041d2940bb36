/** Where a test may end a controller: between any two steps of "apply to running" (DESIGN, flow A). */
export const FAILPOINTS = [
  "api.after-commit",
  "reconcile.after-tasks",
  "placement.before-commit",
  "placement.after-assign",
  "dispatch.before-add",
  "dispatch.after-add",
  "ingest.before-store",
  "ingest.after-store",
] as const;

/** Between a cron job's being due and its run. */
export const CRON_FAILPOINTS = ["cron.before-commit", "cron.after-commit"] as const;

/** Between a webhook's request and its place: passed when the receiver has answered. */
export const WEBHOOK_FAILPOINT = "webhooks.after-send";

/** The same for what moves tasks about: it is passed when tasks were told to stop or to leave. */
export const MOVE_FAILPOINT = "reconcile.after-moves";
