ALTER TABLE "nodes" ADD COLUMN "drain" jsonb;--> statement-breakpoint
ALTER TABLE "nodes" ADD COLUMN "drain_started_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "nodes" ADD COLUMN "drain_status" jsonb;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "holds_slot" boolean DEFAULT false NOT NULL;