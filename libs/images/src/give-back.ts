/**
 * What a pull or transfer took before it failed is given back at once: on a full disk there is no waiting for the next collection.
 * Nothing goes that another pull holds or is about to resume.
 */
import { StatusError } from "@berth/base";
import type { Collection } from "./gc/collection.ts";
import { blobPin, type PinSet } from "./pins.ts";
import { ingestRef } from "./pull/blobs.ts";
import type { Shared } from "./pull/context.ts";

export interface GiveBackDeps {
  readonly shared: Shared;
  readonly gc: Pick<Collection, "runFor">;
}

/** Ends these pins, and removes what only they held; `what` names the loser in the log. */
export async function giveBack(
  { shared, gc }: GiveBackDeps,
  namespace: string,
  pins: PinSet,
  what: string,
): Promise<void> {
  const keys = pins.keys();
  pins[Symbol.dispose]();
  await dropIngests(shared, namespace, keys);
  await gc.runFor(keys).catch((error: unknown) => {
    shared.logger.warn({ error }, `undoing ${what} failed; the next collection tries again`);
  });
}

/** One reason for what several libraries say in their own ways. */
export function diskFull(error: StatusError, image: string): StatusError {
  if (error.reason === "DISK_FULL") return error;
  return new StatusError("RESOURCE_EXHAUSTED", `image ${image}: disk full: ${error.message}`, {
    reason: "DISK_FULL",
    cause: error,
  });
}

const PULLED = ["manifest", "config", "layer"];

/** Ingests that a pull began and no other pull is about to resume: of layers, and of a config or manifest that found no room. */
async function dropIngests(shared: Shared, namespace: string, keys: ReadonlySet<string>): Promise<void> {
  const { content, locks, pins, logger } = shared;
  for (const { ref, expected } of await content.listStatuses(namespace)) {
    if (expected === undefined || !PULLED.some((what) => ref === ingestRef(what, expected))) continue;
    const key = blobPin(namespace, expected);
    if (!keys.has(key)) continue;
    await locks
      .run(`blob ${expected}`, async () => {
        if (!pins.isPinned(key)) await content.abort(namespace, ref);
      })
      .catch((error: unknown) => logger.warn({ error, ref }, "dropping an ingest failed; it will expire"));
  }
}
