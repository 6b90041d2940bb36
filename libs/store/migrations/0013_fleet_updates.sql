CREATE INDEX "tasks_unreachable" ON "tasks" USING btree ("node") WHERE certainty = 'unreachable';--> statement-breakpoint
-- Rows that are written anew all the time, in columns that no index has: with room beside them the indexes are left alone (HOT).
ALTER TABLE "tasks" SET (fillfactor = 50);--> statement-breakpoint
ALTER TABLE "nodes" SET (fillfactor = 50);--> statement-breakpoint
ALTER TABLE "workloads" SET (fillfactor = 50);--> statement-breakpoint
ALTER TABLE "journal_state" SET (fillfactor = 50);