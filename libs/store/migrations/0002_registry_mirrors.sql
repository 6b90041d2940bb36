CREATE TABLE "registry_mirrors" (
	"uid" uuid NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"resource_version" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	"name" text PRIMARY KEY NOT NULL,
	"registry" text NOT NULL,
	"spec" jsonb DEFAULT '{}'::jsonb NOT NULL,
	CONSTRAINT "registry_mirrors_registry_unique" UNIQUE("registry")
);
--> statement-breakpoint
ALTER TABLE "store_meta" ADD COLUMN "mirrors_revision" bigint DEFAULT 0 NOT NULL;