/** Connections to Redis as BullMQ needs them, and Redis' errors in our words. */
import { StatusError } from "@berth/base";
import { Redis } from "ioredis";

/**
 * Opens a connection that comes back for ever. With `blocking`, commands wait out an outage, as a worker wants it;
 * otherwise they fail after two tries to reconnect, as a dispatcher wants it.
 */
export function connectRedis(redisUrl: string, options: { readonly blocking: boolean }): Redis {
  return new Redis(redisUrl, {
    maxRetriesPerRequest: options.blocking ? null : 2,
    retryStrategy: (times) => Math.min(100 * 2 ** Math.min(times - 1, 5), 3_000),
    // A failover leaves the old primary reachable but read-only: reconnect, and find the new one.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
    connectTimeout: 5_000,
    keepAlive: 15_000,
  });
}

/** The nearest code for what ioredis or Redis said. Neither repeats the URL, so no password can leak. */
export function redisError(error: unknown, subject: string): StatusError {
  if (error instanceof StatusError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const text = `${subject}: ${message}`;
  if (/^(NOPERM|NOAUTH|WRONGPASS)/.test(message)) {
    return new StatusError("PERMISSION_DENIED", text, { reason: "REDIS_DENIED", cause: error });
  }
  if (message.startsWith("OOM "))
    return new StatusError("RESOURCE_EXHAUSTED", text, { reason: "REDIS_FULL", cause: error });
  return new StatusError("UNAVAILABLE", text, { reason: "REDIS_UNAVAILABLE", cause: error });
}
