/** The advisory locks of Berth: pairs of (what, which one), so that no two uses ever share a key. */

export type LockKey = readonly [what: number, which: number];

const WHAT = 0x62_72_00_00; // "br": other programs in the same database hardly lock there

export const MIGRATION_LOCK: LockKey = [WHAT + 1, 0];
export const reconcileLock = (partition: number): LockKey => [WHAT + 2, partition];
export const ingestLock = (shard: number): LockKey => [WHAT + 3, shard];
export const LEASE_EXPIRY_LOCK: LockKey = [WHAT + 4, 0];
export const PRUNE_LOCK: LockKey = [WHAT + 5, 0];
export const campaignLock = (partition: number): LockKey => [WHAT + 6, partition];
/** Held, shared, by every controller: how many there are is how many hold it. */
export const MEMBERS_LOCK: LockKey = [WHAT + 7, 0];
export const DISPATCH_LOCK: LockKey = [WHAT + 8, 0];
export const DRAIN_LOCK: LockKey = [WHAT + 12, 0];
export const NEWS_LOCK: LockKey = [WHAT + 33, 0];
export const webhookLock = (partition: number): LockKey => [WHAT + 34, partition];
export const PARTITION_LOCK: LockKey = [WHAT + 32, 0];
export const PLACEMENT_LOCK: LockKey = [WHAT + 9, 0];
export const UPGRADE_LOCK: LockKey = [WHAT + 36, 0];
