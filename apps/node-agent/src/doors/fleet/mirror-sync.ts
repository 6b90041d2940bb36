/** When the registry mirrors are asked for: as soon as an answer to the lease says that they are others. */
import { create } from "@bufbuild/protobuf";
import { backoffMs, StatusError, withSignal, type Clock, type Logger } from "@berth/base";
import { mirrorsEndpoint, type Bus } from "@berth/bus";
import { MirrorsRequestSchema, type MirrorsReply } from "@berth/proto";
import type { MirrorSet, RegistryRoutes } from "../../registry-routes.ts";

export interface MirrorSyncDeps {
  readonly bus: Pick<Bus, "request" | "connected">;
  readonly node: string;
  readonly routes: Pick<RegistryRoutes, "take">;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class MirrorSync {
  readonly #deps: MirrorSyncDeps;
  #wanted = Promise.withResolvers<void>();

  constructor(deps: MirrorSyncDeps) {
    this.#deps = deps;
  }

  /** Asks soon; asking often is the same as asking once. */
  want(): void {
    this.#wanted.resolve();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { bus, clock, logger, routes } = this.#deps;
    let failures = 0;
    while (!signal.aborted) {
      try {
        await withSignal(this.#wanted.promise, signal);
        await bus.connected(signal);
        this.#wanted = Promise.withResolvers();
        await routes.take(await this.#fetch(signal));
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        this.want();
        failures += 1;
        const status = StatusError.from(error);
        const waitMs = backoffMs({ initialMs: 250, maxMs: 15_000, factor: 2 }, Math.min(failures, 20));
        logger.warn({ reason: status.reason, failures, waitMs }, `registry mirrors not taken over: ${status.message}`);
        await clock.sleep(waitMs, signal).catch(() => {});
      }
    }
  }

  async #fetch(signal: AbortSignal): Promise<MirrorSet> {
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const set = joinPages(await this.#pages(signal));
      if (set !== undefined) return set;
    }
    throw new StatusError("ABORTED", "the mirrors changed each time they were read");
  }

  async #pages(signal: AbortSignal): Promise<MirrorsReply[]> {
    const { bus, node } = this.#deps;
    const pages: MirrorsReply[] = [];
    for (let offset = 0; ;) {
      const request = create(MirrorsRequestSchema, { node, offset });
      const page = await bus.request(mirrorsEndpoint, node, request, { timeoutMs: 10_000, signal });
      pages.push(page);
      if (page.nextOffset === 0) return pages;
      offset = page.nextOffset;
    }
  }
}

/** `undefined` when they changed in between. */
function joinPages(pages: readonly MirrorsReply[]): MirrorSet | undefined {
  const { storeEpoch, revision } = pages[0]!;
  if (!pages.every((page) => page.storeEpoch === storeEpoch && page.revision === revision)) return undefined;
  return { storeEpoch, revision: Number(revision), mirrors: pages.flatMap(({ mirrors }) => mirrors) };
}
