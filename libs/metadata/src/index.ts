export { backupMetadata, checkMetadata, readMetadata, type MetadataCheck, type MetadataReader } from "./inspect.ts";
export type { Metadata, Migration, SqlRow, SqlValue, Statement, StatementResult } from "./metadata.ts";
export { openMetadata, type MetadataCounters, type OpenedMetadata, type OpenMetadataOptions } from "./open.ts";
