CREATE TABLE "node_images" (
	"node" text NOT NULL,
	"image" text NOT NULL,
	CONSTRAINT "node_images_image_node_pk" PRIMARY KEY("image","node")
);
--> statement-breakpoint
CREATE TABLE "placement_decisions" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"decided_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"workload_uid" uuid NOT NULL,
	"record" jsonb NOT NULL
);
--> statement-breakpoint
ALTER TABLE "nodes" ADD COLUMN "taints" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "nodes" ADD COLUMN "cpu_overcommit" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "nodes" ADD COLUMN "memory_overcommit" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "nominated_node" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "decision_id" bigint;--> statement-breakpoint
ALTER TABLE "workloads" ADD COLUMN "priority" integer GENERATED ALWAYS AS (coalesce((spec -> 'placement' ->> 'priority')::int, 0)) STORED NOT NULL;--> statement-breakpoint
CREATE INDEX "node_images_node" ON "node_images" USING btree ("node");--> statement-breakpoint
CREATE INDEX "placement_decisions_workload" ON "placement_decisions" USING btree ("workload_uid");