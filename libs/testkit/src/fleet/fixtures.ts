/** What many fleet tests do to a fleet's servers. */
import { Redis } from "ioredis";
import { busyboxImage } from "../images/demo.ts";
import { pushImage } from "../images/push.ts";
import type { RedisServer } from "../servers/redis.ts";
import type { RegistryServer } from "../servers/registry.ts";

/** Pushes a busybox image and gives the name by which workloads use it. */
export async function pushHelloImage(registry: RegistryServer): Promise<string> {
  return (await pushImage(registry, "demo/hello", "v1", busyboxImage())).name;
}

/** FLUSHALL, as an operator's mistake or a replaced server would have it. */
export async function flushRedis(redis: RedisServer): Promise<void> {
  const client = new Redis(redis.url, { lazyConnect: true });
  try {
    await client.connect();
    await client.flushall();
  } finally {
    client.disconnect();
  }
}
