ALTER TABLE "events" ADD COLUMN "entry" "bytea";--> statement-breakpoint
ALTER TABLE "events" ADD COLUMN "entry_hash" "bytea";--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "stored_time" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "head_hash" "bytea";--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "chained_from_seq" bigint;--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "breaks" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "last_break_seq" bigint;--> statement-breakpoint
ALTER TABLE "journal_state" ADD COLUMN "last_break_at" timestamp (3) with time zone;