ALTER TABLE "journal_state" ADD COLUMN "acknowledged_breaks" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "acknowledged_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "acknowledged_by" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "acknowledged_reason" text DEFAULT '' NOT NULL;