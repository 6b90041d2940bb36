ALTER TABLE "nodes" ADD COLUMN "machine_id" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "nodes" ADD COLUMN "conflict" jsonb;--> statement-breakpoint
ALTER TABLE "nodes" ADD COLUMN "eviction_held" text DEFAULT '' NOT NULL;