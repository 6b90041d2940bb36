export {
  connectBus,
  type Bus,
  type BusOptions,
  type BusState,
  type FrameBus,
  type RequestContext,
  type RequestOptions,
  type ServeOptions,
} from "./bus.ts";
export { FactsReader, type FactsSpec, type ReadRequest } from "./facts-and-news.ts";
export {
  consumeShard,
  ensureStream,
  JOURNAL_STREAM,
  publishJournal,
  type ConsumeOptions,
  type JournalDelivery,
  type PublishOptions,
  type StreamLimits,
} from "./journal-stream.ts";
export {
  agentInboxPrefix,
  agentPermissions,
  assignmentsEndpoint,
  controllerInboxPrefix,
  holdingsEndpoint,
  journalFetchEndpoint,
  eventSubject,
  journalSubject,
  leaseEndpoint,
  mirrorsEndpoint,
  nodeOfSubject,
  progressSubject,
  streamOpenEndpoint,
  agentUpgradeEndpoint,
  drillEndpoint,
  usageEndpoint,
  streamSubject,
  type Endpoint,
} from "./subjects.ts";
export { SenderMemory, type SenderMemoryOptions } from "./sender-memory.ts";
export {
  openStream,
  type OpenedStream,
  type OpenStreamOptions,
  type StreamEvent,
  type StreamKind,
} from "./stream/open-stream.ts";
export {
  serveStreams,
  type CopyTotals,
  type ServedStream,
  type ServeStreamsOptions,
  type StreamHandlers,
} from "./stream/serve-streams.ts";
