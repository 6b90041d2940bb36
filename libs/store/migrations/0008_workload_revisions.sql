CREATE TABLE "workload_revisions" (
	"workload_uid" uuid NOT NULL,
	"revision" bigint NOT NULL,
	"generation" bigint NOT NULL,
	"template" jsonb NOT NULL,
	"restart" boolean DEFAULT false NOT NULL,
	"cause" text DEFAULT '' NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "workload_revisions_workload_uid_revision_pk" PRIMARY KEY("workload_uid","revision")
);
--> statement-breakpoint
ALTER TABLE "workloads" ADD COLUMN "revision" bigint DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "workloads" ADD COLUMN "paused" boolean DEFAULT false NOT NULL;--> statement-breakpoint
INSERT INTO "workload_revisions" ("workload_uid", "revision", "generation", "template")
SELECT "uid", 1, "generation", "spec" - 'replicas' - 'rollout' - 'everyNode' - 'disruption' FROM "workloads";
