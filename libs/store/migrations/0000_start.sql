CREATE TABLE "campaign_targets" (
	"id" uuid PRIMARY KEY NOT NULL,
	"campaign_uid" uuid NOT NULL,
	"generation" bigint NOT NULL,
	"namespace" text NOT NULL,
	"node" text NOT NULL,
	"image" text NOT NULL,
	"snapshotter" text DEFAULT '' NOT NULL,
	"phase" text DEFAULT 'Waiting' NOT NULL,
	"attempt" integer DEFAULT 0 NOT NULL,
	"message" text DEFAULT '' NOT NULL,
	"image_digest" text DEFAULT '' NOT NULL,
	"next_attempt_at" timestamp (3) with time zone,
	"finished_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "campaigns" (
	"uid" uuid PRIMARY KEY NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"namespace" text NOT NULL,
	"name" text NOT NULL,
	"spec" jsonb NOT NULL,
	"status" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"phase" text DEFAULT 'Running' NOT NULL,
	"observed_generation" bigint DEFAULT 0 NOT NULL,
	"started_at" timestamp (3) with time zone,
	"finished_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "forgotten_nodes" (
	"name" text PRIMARY KEY NOT NULL,
	"assignment_revision" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "namespaces" (
	"uid" uuid NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"name" text PRIMARY KEY NOT NULL,
	"spec" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"observed_generation" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "nodes" (
	"uid" uuid NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"name" text PRIMARY KEY NOT NULL,
	"agent_labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"effective_labels" jsonb GENERATED ALWAYS AS (agent_labels || labels) STORED NOT NULL,
	"cordoned" boolean DEFAULT false NOT NULL,
	"phase" text NOT NULL,
	"conditions" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"cpu_millis" bigint DEFAULT 0 NOT NULL,
	"memory_bytes" bigint DEFAULT 0 NOT NULL,
	"max_tasks" integer DEFAULT 0 NOT NULL,
	"disk_bytes" bigint DEFAULT 0 NOT NULL,
	"runtime_handlers" text[] DEFAULT '{}' NOT NULL,
	"snapshotters" text[] DEFAULT '{}' NOT NULL,
	"agent_version" text DEFAULT '' NOT NULL,
	"kernel_version" text DEFAULT '' NOT NULL,
	"address" text DEFAULT '' NOT NULL,
	"boot_id" text DEFAULT '' NOT NULL,
	"instance" text DEFAULT '' NOT NULL,
	"previous_instance" text DEFAULT '' NOT NULL,
	"lease_renewed_at" timestamp (3) with time zone NOT NULL,
	"lease_expires_at" timestamp (3) with time zone NOT NULL,
	"silent_since" timestamp (3) with time zone,
	"journal_epoch" text DEFAULT '' NOT NULL,
	"journal_head_seq" bigint DEFAULT 0 NOT NULL,
	"assignment_revision" bigint DEFAULT 0 NOT NULL,
	"applied_revision" bigint DEFAULT 0 NOT NULL,
	"applied_store_epoch" text DEFAULT '' NOT NULL,
	"shard" smallint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tasks" (
	"uid" uuid PRIMARY KEY NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"namespace" text NOT NULL,
	"name" text NOT NULL,
	"workload" text NOT NULL,
	"workload_uid" uuid NOT NULL,
	"workload_generation" bigint NOT NULL,
	"slot" integer NOT NULL,
	"pinned_node" text,
	"node" text,
	"container" jsonb NOT NULL,
	"desired" text DEFAULT 'Run' NOT NULL,
	"cpu_millis" bigint DEFAULT 0 NOT NULL,
	"memory_bytes" bigint DEFAULT 0 NOT NULL,
	"host_ports" text[] DEFAULT '{}' NOT NULL,
	"observed_generation" bigint DEFAULT 0 NOT NULL,
	"attempt" integer DEFAULT 1 NOT NULL,
	"phase" text DEFAULT 'Pending' NOT NULL,
	"reason" text DEFAULT '' NOT NULL,
	"message" text DEFAULT '' NOT NULL,
	"certainty" text DEFAULT 'observed' NOT NULL,
	"possibly_until" timestamp (3) with time zone,
	"exit_code" integer,
	"oom_killed" boolean DEFAULT false NOT NULL,
	"started_at" timestamp (3) with time zone,
	"finished_at" timestamp (3) with time zone,
	"addresses" text[] DEFAULT '{}' NOT NULL,
	"restarts" integer DEFAULT 0 NOT NULL,
	"image_digest" text DEFAULT '' NOT NULL,
	"next_attempt_at" timestamp (3) with time zone,
	"removed" boolean DEFAULT false NOT NULL,
	"failures" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "workloads" (
	"uid" uuid PRIMARY KEY NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"namespace" text NOT NULL,
	"name" text NOT NULL,
	"spec" jsonb NOT NULL,
	"status" jsonb DEFAULT '{}'::jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "changes" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"kind" text NOT NULL,
	"namespace" text NOT NULL,
	"name" text NOT NULL,
	"uid" text NOT NULL,
	"op" text NOT NULL,
	"object" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "events" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"namespace" text DEFAULT '' NOT NULL,
	"time" timestamp (3) with time zone NOT NULL,
	"topic" text NOT NULL,
	"kind" text NOT NULL,
	"name" text NOT NULL,
	"uid" text DEFAULT '' NOT NULL,
	"node" text DEFAULT '' NOT NULL,
	"severity" text DEFAULT 'Normal' NOT NULL,
	"reason" text DEFAULT '' NOT NULL,
	"message" text DEFAULT '' NOT NULL,
	"attributes" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"journal_epoch" text,
	"journal_seq" bigint,
	"stored_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "feed_marks" (
	"feed" text PRIMARY KEY NOT NULL,
	"xid" "xid8" NOT NULL,
	"id" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "ingest_shards" (
	"shard" smallint PRIMARY KEY NOT NULL,
	"epoch" bigint NOT NULL,
	"owner" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "journal_state" (
	"node" text NOT NULL,
	"epoch" text NOT NULL,
	"ordinal" bigserial NOT NULL,
	"stored_seq" bigint DEFAULT 0 NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "journal_state_node_epoch_pk" PRIMARY KEY("node","epoch")
);
--> statement-breakpoint
CREATE TABLE "outbox" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"node" text NOT NULL,
	"job_name" text NOT NULL,
	"job_id" text NOT NULL,
	"job" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "store_meta" (
	"id" integer PRIMARY KEY DEFAULT 1 NOT NULL,
	"store_epoch" uuid NOT NULL,
	"stops_confirmed" boolean DEFAULT true NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tokens" (
	"id" uuid PRIMARY KEY NOT NULL,
	"hash" text NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"revoked_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE UNIQUE INDEX "campaign_targets_place" ON "campaign_targets" USING btree ("campaign_uid","node","image");--> statement-breakpoint
CREATE INDEX "campaign_targets_node" ON "campaign_targets" USING btree ("node");--> statement-breakpoint
CREATE INDEX "campaign_targets_phase" ON "campaign_targets" USING btree ("campaign_uid","phase");--> statement-breakpoint
CREATE UNIQUE INDEX "campaigns_name" ON "campaigns" USING btree ("namespace","name");--> statement-breakpoint
CREATE UNIQUE INDEX "tasks_name" ON "tasks" USING btree ("namespace","name");--> statement-breakpoint
CREATE UNIQUE INDEX "tasks_slot" ON "tasks" USING btree ("workload_uid","slot") WHERE desired = 'Run' and slot >= 0;--> statement-breakpoint
CREATE UNIQUE INDEX "tasks_pinned_node" ON "tasks" USING btree ("workload_uid","pinned_node") WHERE desired = 'Run' and pinned_node is not null;--> statement-breakpoint
CREATE INDEX "tasks_workload" ON "tasks" USING btree ("workload_uid");--> statement-breakpoint
CREATE INDEX "tasks_node" ON "tasks" USING btree ("node");--> statement-breakpoint
CREATE INDEX "tasks_unplaced" ON "tasks" USING btree ("created_at") WHERE node is null and desired = 'Run';--> statement-breakpoint
CREATE INDEX "tasks_next_attempt" ON "tasks" USING btree ("next_attempt_at") WHERE next_attempt_at is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "workloads_name" ON "workloads" USING btree ("namespace","name");--> statement-breakpoint
CREATE INDEX "changes_feed" ON "changes" USING btree ("xid","id");--> statement-breakpoint
CREATE INDEX "changes_created" ON "changes" USING brin ("created_at");--> statement-breakpoint
CREATE UNIQUE INDEX "events_journal" ON "events" USING btree ("node","journal_epoch","journal_seq") WHERE journal_seq is not null;--> statement-breakpoint
CREATE INDEX "events_feed" ON "events" USING btree ("xid","id");--> statement-breakpoint
CREATE INDEX "events_namespace" ON "events" USING btree ("namespace","id");--> statement-breakpoint
CREATE INDEX "events_stored" ON "events" USING brin ("stored_at");--> statement-breakpoint
CREATE UNIQUE INDEX "tokens_hash" ON "tokens" USING btree ("hash");