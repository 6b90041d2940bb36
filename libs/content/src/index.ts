export { auditContent, type ContentAudit } from "./audit.ts";
export type {
  BlobInfo,
  BlobReader,
  CommitOptions,
  ContentCapabilities,
  ContentStore,
  IngestStatus,
  IngestWriter,
  Labels,
  ReadRange,
  SharingPolicy,
  WriterOptions,
} from "./content.ts";
export { contentMigrations } from "./migrations.ts";
export { openContentStore, type ContentStoreConfig, type ContentStoreDeps, type FileContentStore } from "./open.ts";
export type { LostBlob, RecoveryReport } from "./recover.ts";
export type { SyncPolicy } from "./layout.ts";
export type { HashOptions } from "./hasher.ts";
export type { HeldBlob } from "./rows.ts";
export type { Verification } from "./verify-blob.ts";
