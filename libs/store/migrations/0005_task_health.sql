ALTER TABLE "tasks" ADD COLUMN "health" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "available_since" timestamp (3) with time zone;