CREATE TABLE "upgrade_nodes" (
	"upgrade_id" bigint NOT NULL,
	"node" text NOT NULL,
	"group" integer NOT NULL,
	"from_version" text NOT NULL,
	"to_version" text NOT NULL,
	"order_id" uuid NOT NULL,
	"phase" text DEFAULT 'Waiting' NOT NULL,
	"message" text DEFAULT '' NOT NULL,
	"ordered_at" timestamp (3) with time zone,
	"finished_at" timestamp (3) with time zone,
	CONSTRAINT "upgrade_nodes_upgrade_id_node_pk" PRIMARY KEY("upgrade_id","node")
);
--> statement-breakpoint
CREATE TABLE "upgrades" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "upgrades_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"spec" jsonb NOT NULL,
	"phase" text DEFAULT 'Running' NOT NULL,
	"message" text DEFAULT '' NOT NULL,
	"accepted_failures" integer DEFAULT 0 NOT NULL,
	"baked_group" integer DEFAULT 0 NOT NULL,
	"baking_until" timestamp (3) with time zone,
	"started_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp (3) with time zone
);
--> statement-breakpoint
ALTER TABLE "upgrade_nodes" ADD CONSTRAINT "upgrade_nodes_upgrade_id_upgrades_id_fk" FOREIGN KEY ("upgrade_id") REFERENCES "public"."upgrades"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "upgrade_nodes_order" ON "upgrade_nodes" USING btree ("upgrade_id","group","node");--> statement-breakpoint
CREATE UNIQUE INDEX "upgrades_active" ON "upgrades" USING btree ((true)) WHERE "upgrades"."phase" in ('Running', 'Paused');