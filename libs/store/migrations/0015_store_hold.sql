ALTER TABLE "nodes" ADD COLUMN "holdings" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "store_meta" ADD COLUMN "held" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "store_meta" ADD COLUMN "restored_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "store_meta" ADD COLUMN "identity" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "store_meta" ADD COLUMN "system_id" text DEFAULT '' NOT NULL;