export type { Appended, Entry, EpochReason, EpochState, Journal, NewEntry, Position, Transacted } from "./journal.ts";
export { journalMigrations } from "./migrations.ts";
export { openJournal, type JournalConfig, type JournalDeps } from "./open.ts";
export {
  startPublisher,
  type Batch,
  type JournalPublisher,
  type JournalTransport,
  type PublisherConfig,
  type PublisherDeps,
} from "./publisher.ts";
