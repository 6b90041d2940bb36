/**
 * Declarative apply, the same for every kind: lock what is there, compare, and write only what is different.
 *
 * Invariants: the same spec and labels again write nothing (same generation, same resource version, no change in the feed);
 * a new spec raises the generation, new labels alone do not; a given resource version must be the current one; a dry run
 * makes every check and answers what would be stored. Labels are stated whole: those left out are removed.
 */
import { hasCode, type Failpoint } from "@berth/base";
import { clone, equals, type DescMessage, type Message, type MessageShape } from "@bufbuild/protobuf";
import { MetadataSchema, type Metadata } from "@berth/proto";
import type { Store, Tx } from "@berth/store";
import { goingAway, versionConflict, type Noun } from "./refusals.ts";

export interface AppliedRow {
  readonly labels: Record<string, string>;
  readonly generation: number;
  readonly resourceVersion: number;
  readonly deletedAt: Date | null;
}

export interface Application<Row extends AppliedRow, Spec extends DescMessage, Resource extends Message> {
  readonly noun: Noun;
  readonly metadata: Metadata;
  readonly specSchema: Spec;
  readonly spec: MessageShape<Spec>;
  readonly dryRun: boolean;
  /** Checks what it belongs to, and locks the row if there is one. */
  lock(tx: Tx): Promise<Row | undefined>;
  specOf(row: Row): MessageShape<Spec>;
  insert(tx: Tx): Promise<Row>;
  update(tx: Tx, row: Row, patch: { labels: Record<string, string>; spec?: MessageShape<Spec> }): Promise<Row>;
  /** What is answered for a row. */
  resourceOf(row: Row): Resource;
  /** What a dry run answers, with the metadata that it would have. */
  preview(metadata: Metadata, row: Row | undefined): Resource;
}

export interface ApplyDeps {
  readonly store: Store;
  readonly failpoint: Failpoint;
}

export async function applyResource<Row extends AppliedRow, Spec extends DescMessage, Resource extends Message>(
  { store, failpoint }: ApplyDeps,
  application: Application<Row, Spec, Resource>,
): Promise<Resource> {
  const once = (): Promise<Resource> => store.transaction((tx) => applyIn(tx, application));
  const applied = await once().catch((error: unknown) => {
    // Somebody else applied it for the first time between our look and our insert: now it is there.
    if (hasCode(error, "ALREADY_EXISTS")) return once();
    throw error;
  });
  failpoint("api.after-commit");
  return applied;
}

async function applyIn<Row extends AppliedRow, Spec extends DescMessage, Resource extends Message>(
  tx: Tx,
  application: Application<Row, Spec, Resource>,
): Promise<Resource> {
  const { noun, metadata, dryRun } = application;
  const row = await application.lock(tx);
  if (row?.deletedAt) throw goingAway(noun, metadata.name);
  const given = metadata.resourceVersion;
  if (given !== 0n && given !== BigInt(row?.resourceVersion ?? -1)) {
    throw versionConflict(noun, metadata.name, given, row?.resourceVersion);
  }
  if (row === undefined) {
    if (dryRun) return application.preview(previewMetadata(metadata, 1, 0), undefined);
    return application.resourceOf(await application.insert(tx));
  }
  const newSpec = !equals(application.specSchema, application.specOf(row), application.spec);
  if (!newSpec && sameLabels(row.labels, metadata.labels)) return application.resourceOf(row);
  if (dryRun) {
    const shown = previewMetadata(metadata, row.generation + (newSpec ? 1 : 0), row.resourceVersion);
    return application.preview(shown, row);
  }
  const patch = { labels: metadata.labels, ...(newSpec ? { spec: application.spec } : {}) };
  return application.resourceOf(await application.update(tx, row, patch));
}

function previewMetadata(metadata: Metadata, generation: number, resourceVersion: number): Metadata {
  const shown = clone(MetadataSchema, metadata);
  shown.generation = BigInt(generation);
  shown.resourceVersion = BigInt(resourceVersion);
  return shown;
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key]);
}
