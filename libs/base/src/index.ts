export { abortReason, aborted, anySignal, throwIfAborted, withSignal } from "./abort.ts";
export { seededRandom, systemClock, type Clock, type Random } from "./clock.ts";
export { digestAlgorithm, digestHex, digestOf, isDigest, parseDigest, toDigest, type Digest } from "./digest.ts";
export { Emitter } from "./emitter.ts";
export { crashAt, noFailpoints, type Failpoint } from "./failpoint.ts";
export { chainBegin, chainNext, sameHash, type ChainedEntry } from "./hash-chain.ts";
export { KeyedLock } from "./keyed-lock.ts";
export { Lifetime } from "./lifetime.ts";
export { silentLogger, type Logger } from "./logger.ts";
export { ManualClock } from "./manual-clock.ts";
export { backoffMs, defaultBackoff, retry, type Backoff, type RetryOptions } from "./retry.ts";
export { Semaphore } from "./semaphore.ts";
export { siblingModule } from "./sibling-module.ts";
export {
  hasCode,
  isTransient,
  STATUS_CODES,
  StatusError,
  type FieldViolation,
  type StatusCode,
  type StatusErrorOptions,
} from "./status-error.ts";
export { uuidTimeMs, uuidv7 } from "./uuid.ts";
