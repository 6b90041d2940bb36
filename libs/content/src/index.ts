export type {
  BlobInfo,
  BlobReader,
  CommitOptions,
  ContentStore,
  IngestStatus,
  IngestWriter,
  Labels,
  WriterOptions,
} from "./content.ts";
export { contentMigrations } from "./migrations.ts";
export {
  openContentStore,
  type ContentStoreConfig,
  type ContentStoreDeps,
  type FileContentStore,
  type Verification,
} from "./open.ts";
export type { LostBlob, RecoveryReport } from "./recover.ts";
export type { SyncPolicy } from "./layout.ts";
