-- Events and changes become partitioned by the time they were stored. What is there stays where it is, as the first partition:
-- nothing is copied, but its primary key and one index are made anew (about 2 s per million rows, in which writers wait).
CREATE TABLE "history_base" (
	"kind" text NOT NULL,
	"namespace" text NOT NULL,
	"name" text NOT NULL,
	"id" bigint NOT NULL,
	"object" jsonb NOT NULL,
	"changed_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "history_base_kind_namespace_name_pk" PRIMARY KEY("kind","namespace","name")
);
--> statement-breakpoint
ALTER TABLE "feed_marks" ADD COLUMN "until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "store_meta" ADD COLUMN "history_since" timestamp (3) with time zone;--> statement-breakpoint
DROP INDEX "changes_created";--> statement-breakpoint
ALTER TABLE "changes" ALTER COLUMN "created_at" SET DEFAULT clock_timestamp();--> statement-breakpoint
ALTER TABLE "changes" DROP CONSTRAINT "changes_pkey";--> statement-breakpoint
ALTER INDEX "changes_feed" RENAME TO "changes_before_feed";--> statement-breakpoint
ALTER TABLE "changes" RENAME TO "changes_before";--> statement-breakpoint
CREATE TABLE "changes" (LIKE "changes_before" INCLUDING DEFAULTS) PARTITION BY RANGE ("created_at");--> statement-breakpoint
ALTER SEQUENCE "changes_id_seq" OWNED BY "changes"."id";--> statement-breakpoint
ALTER TABLE "changes" ADD CONSTRAINT "changes_id_created_at_pk" PRIMARY KEY("id","created_at");--> statement-breakpoint
CREATE INDEX "changes_feed" ON "changes" USING btree ("xid","id");--> statement-breakpoint
CREATE INDEX "changes_object" ON "changes" USING btree ("kind","namespace","name","id" DESC NULLS FIRST);--> statement-breakpoint
DO $$ DECLARE upper_bound timestamptz; BEGIN
	SELECT date_trunc('hour', greatest(clock_timestamp(), (SELECT max(created_at) FROM changes_before))) + interval '1 hour' INTO upper_bound;
	EXECUTE format('ALTER TABLE changes ATTACH PARTITION changes_before FOR VALUES FROM (MINVALUE) TO (%L)', upper_bound);
END $$;--> statement-breakpoint
DROP INDEX "events_journal";--> statement-breakpoint
ALTER TABLE "events" DROP CONSTRAINT "events_pkey";--> statement-breakpoint
ALTER INDEX "events_feed" RENAME TO "events_before_feed";--> statement-breakpoint
ALTER INDEX "events_namespace" RENAME TO "events_before_namespace";--> statement-breakpoint
ALTER INDEX "events_stored" RENAME TO "events_before_stored";--> statement-breakpoint
ALTER TABLE "events" RENAME TO "events_before";--> statement-breakpoint
CREATE TABLE "events" (LIKE "events_before" INCLUDING DEFAULTS) PARTITION BY RANGE ("stored_at");--> statement-breakpoint
ALTER SEQUENCE "events_id_seq" OWNED BY "events"."id";--> statement-breakpoint
ALTER TABLE "events" ADD CONSTRAINT "events_id_stored_at_pk" PRIMARY KEY("id","stored_at");--> statement-breakpoint
CREATE INDEX "events_journal" ON "events" USING btree ("node","journal_epoch","journal_seq") WHERE journal_seq is not null;--> statement-breakpoint
CREATE INDEX "events_feed" ON "events" USING btree ("xid","id");--> statement-breakpoint
CREATE INDEX "events_namespace" ON "events" USING btree ("namespace","id");--> statement-breakpoint
CREATE INDEX "events_stored" ON "events" USING brin ("stored_at");--> statement-breakpoint
DO $$ DECLARE upper_bound timestamptz; BEGIN
	SELECT date_trunc('hour', greatest(clock_timestamp(), (SELECT max(stored_at) FROM events_before))) + interval '1 hour' INTO upper_bound;
	EXECUTE format('ALTER TABLE events ATTACH PARTITION events_before FOR VALUES FROM (MINVALUE) TO (%L)', upper_bound);
END $$;
