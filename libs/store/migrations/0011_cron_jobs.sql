CREATE TABLE "cron_jobs" (
	"uid" uuid PRIMARY KEY NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"namespace" text NOT NULL,
	"name" text NOT NULL,
	"spec" jsonb NOT NULL,
	"decided_until" timestamp (3) with time zone NOT NULL,
	"look_at" timestamp (3) with time zone NOT NULL,
	"last_scheduled_at" timestamp (3) with time zone,
	"next_at" timestamp (3) with time zone,
	"active" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "cron_runs" (
	"cron_uid" uuid NOT NULL,
	"scheduled_at" timestamp (3) with time zone NOT NULL,
	"outcome" text NOT NULL,
	"message" text DEFAULT '' NOT NULL,
	"workload" text DEFAULT '' NOT NULL,
	"workload_uid" uuid,
	CONSTRAINT "cron_runs_cron_uid_scheduled_at_pk" PRIMARY KEY("cron_uid","scheduled_at")
);
--> statement-breakpoint
CREATE UNIQUE INDEX "cron_jobs_name" ON "cron_jobs" USING btree ("namespace","name");--> statement-breakpoint
CREATE INDEX "cron_jobs_look_at" ON "cron_jobs" USING btree ("look_at");