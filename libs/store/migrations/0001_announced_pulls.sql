ALTER TABLE "campaign_targets" ADD COLUMN "announced_generation" bigint;--> statement-breakpoint
ALTER TABLE "campaign_targets" ADD COLUMN "announced_attempt" integer;