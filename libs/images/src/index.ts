export { watchChanges, type StoreChanges, type WatchedMetadata } from "./gc/changes.ts";
export type {
  GarbageCollection,
  GcConfig,
  GcCounters,
  GcItem,
  GcKind,
  GcReport,
  GcRequest,
  GcTrigger,
  ImagePin,
  ImagePins,
  Watermarks,
} from "./gc/gc.ts";
export type { HeldContainer, ImageReferences } from "./gc/references.ts";
export type {
  Collected,
  ImageRecord,
  Images,
  LayerProgress,
  PullPhase,
  PullProgress,
  PullRequest,
  TagRequest,
  UnpackedImage,
} from "./images.ts";
export {
  EXPIRE_LABEL,
  FLAT_LABEL,
  type Lease,
  type LeaseResource,
  type Leases,
  type NewLease,
} from "./leases/leases.ts";
export { imageMigrations } from "./migrations.ts";
export type { ImagesConfig, ImagesDeps } from "./compose.ts";
export { openImages } from "./service.ts";
export type {
  HistoryEntry,
  ImageDetails,
  ImageInspection,
  ImageUsage,
  LayerDetails,
  NamespaceUsage,
  PlatformDetails,
  PruneRequest,
  PruneResult,
  VerifiedBy,
} from "./inspect/inspection.ts";
export type {
  ArchiveFormat,
  BlobProgress,
  ExportRequest,
  ExportResult,
  ExportTarget,
  ImageTransfer,
  ImportedImage,
  ImportRequest,
  ImportResult,
  ImportSource,
  PushRequest,
  PushResult,
  TransferProgress,
} from "./transfer/transfer.ts";
export { parseSignerKey } from "./verify/keys.ts";
export type {
  BindirRequirement,
  DigestRequirement,
  KeylessRequirement,
  KeyRequirement,
  NamespacePolicy,
  NoRequirement,
  PolicyRule,
  PolicySource,
  RejectRequirement,
  Requirement,
  SignerIdentity,
} from "./verify/policy.ts";
export { checkTrustRoot } from "./verify/check-trust-root.ts";
export { createVerifier, type PolicyVerifier, type VerificationSubject, type VerifierDeps } from "./verify/verifier.ts";
export {
  verify,
  type VerifyDeps,
  type VerifyOptions,
  type VerifyProblem,
  type VerifyProgress,
  type VerifyReport,
} from "./doctor/verify.ts";
