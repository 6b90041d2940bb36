CREATE TABLE "webhook_deliveries" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"webhook_uid" uuid NOT NULL,
	"delivery_id" text NOT NULL,
	"attempt" integer NOT NULL,
	"at" timestamp (3) with time zone NOT NULL,
	"took_ms" integer NOT NULL,
	"events" integer NOT NULL,
	"code" integer DEFAULT 0 NOT NULL,
	"outcome" text NOT NULL,
	"message" text DEFAULT '' NOT NULL
);
--> statement-breakpoint
CREATE TABLE "webhooks" (
	"uid" uuid PRIMARY KEY NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"namespace" text NOT NULL,
	"name" text NOT NULL,
	"spec" jsonb NOT NULL,
	"secret" text DEFAULT '' NOT NULL,
	"previous_secret" text DEFAULT '' NOT NULL,
	"previous_secret_until" timestamp (3) with time zone,
	"xid" "xid8" NOT NULL,
	"event_id" bigint NOT NULL,
	"passed_until" timestamp (3) with time zone NOT NULL,
	"owner_epoch" bigint DEFAULT 0 NOT NULL,
	"batch_xid" "xid8",
	"batch_event_id" bigint,
	"gone_at" timestamp (3) with time zone,
	"last_success_at" timestamp (3) with time zone,
	"last_failure_at" timestamp (3) with time zone,
	"last_error" text DEFAULT '' NOT NULL,
	"failing_since" timestamp (3) with time zone,
	"failures" integer DEFAULT 0 NOT NULL,
	"next_attempt_at" timestamp (3) with time zone,
	"pending_since" timestamp (3) with time zone,
	"delivered" bigint DEFAULT 0 NOT NULL,
	"given_up" bigint DEFAULT 0 NOT NULL,
	"gap_reason" text,
	"gap_from" timestamp (3) with time zone,
	"gap_until" timestamp (3) with time zone,
	"gap_count" bigint DEFAULT 0 NOT NULL,
	"gap_told_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE INDEX "webhook_deliveries_webhook" ON "webhook_deliveries" USING btree ("webhook_uid","id");--> statement-breakpoint
CREATE UNIQUE INDEX "webhooks_name" ON "webhooks" USING btree ("namespace","name");