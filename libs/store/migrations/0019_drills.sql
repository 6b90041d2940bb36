CREATE TABLE "drills" (
	"name" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"selector" text NOT NULL,
	"nodes" text[] NOT NULL,
	"duration_ms" integer NOT NULL,
	"before" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT clock_timestamp() NOT NULL,
	"begun_at" timestamp (3) with time zone,
	"ended_at" timestamp (3) with time zone,
	"verdict" text DEFAULT '' NOT NULL,
	"steps" jsonb DEFAULT '[]'::jsonb NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX "drills_under_way" ON "drills" USING btree ((true)) WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "drills_created" ON "drills" USING btree ("created_at");