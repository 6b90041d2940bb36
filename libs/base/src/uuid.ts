/** UUIDv7 (RFC 9562 §5.7): 48 bits of milliseconds, then random bits, so that ids sort by when they were made. */
import { randomFillSync } from "node:crypto";

const BYTES = 16;
/** Randomness is drawn for many at a time: asking for it costs more than all else of an id. */
const pool = Buffer.alloc(BYTES * 128);
let used = pool.length;

export function uuidv7(nowMs: number = Date.now()): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const bytes = pool.subarray(used, (used += BYTES));
  bytes.writeUIntBE(nowMs, 0, 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** When a UUIDv7 was made, in milliseconds since 1970. */
export function uuidTimeMs(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}
