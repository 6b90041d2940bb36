/**
 * An upgrade by order of the controller. The order has an id; given again, it is the question how far it is, so whoever gives it needs
 * to remember nothing but the id, and an answer that was lost costs nothing. What has ended is in the folder and outlives the agent.
 */
import { join } from "node:path";
import { mkdir, rm } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { StatusError, type Logger } from "@berth/base";
import { AgentUpgradeStateSchema, type AgentUpgradeState, type UpgradeAgentRequest } from "@berth/proto";
import type { RegistryClient } from "@berth/registry";
import { fetchRelease } from "./fetch-release.ts";
import { checkRuns, stageArchive } from "./stage.ts";
import type { VersionsFolder } from "./versions-folder.ts";

export interface OrderedUpgradeDeps {
  /** Undefined where versions do not lie beside each other. */
  readonly folder: VersionsFolder | undefined;
  readonly version: string;
  readonly handlers: readonly string[];
  readonly registry: RegistryClient;
  /** Ends the agent, for its service manager to start it anew. */
  readonly restart: () => void;
  readonly logger: Logger;
}

type Phase = "Fetching" | "Starting" | "Proven" | "TakenBack" | "Refused";

const DEFAULT_SECONDS = 60;

export class OrderedUpgrade implements AsyncDisposable {
  readonly #deps: OrderedUpgradeDeps;
  readonly #closing = new AbortController();
  #working: { readonly id: string; readonly done: Promise<void>; failure: StatusError | undefined } | undefined;

  constructor(deps: OrderedUpgradeDeps) {
    this.#deps = deps;
  }

  take(request: UpgradeAgentRequest): AgentUpgradeState {
    const { folder, version } = this.#deps;
    if (folder === undefined)
      return this.#say("Refused", "Berth was not installed there by install.sh: there are no versions to go between");
    const result = folder.result();
    if (result?.id === request.id)
      return this.#say(result.outcome === "confirmed" ? "Proven" : "TakenBack", result.reason);
    const order = folder.order();
    if (order !== undefined)
      return order.id === request.id
        ? this.#say("Starting")
        : this.#say("Refused", `an upgrade to ${order.to} is under way`);
    if (this.#working?.id === request.id) {
      const { failure } = this.#working;
      return failure === undefined ? this.#say("Fetching") : this.#say("Refused", failure.message);
    }
    if (this.#working !== undefined && this.#working.failure === undefined)
      return this.#say("Refused", "another upgrade is being fetched");
    if (version === request.to) return this.#say("Proven", "it runs already");
    if (folder.current() !== version)
      return this.#say("Refused", `the agent that runs is ${version}, but current is ${folder.current()}`);
    this.#begin(folder, request);
    return this.#say("Fetching");
  }

  #begin(folder: VersionsFolder, request: UpgradeAgentRequest): void {
    const done = this.#carryOut(folder, request).catch((error: unknown) => {
      const status = StatusError.from(error);
      this.#deps.logger.warn({ err: status, to: request.to }, `the upgrade was not begun: ${status.message}`);
      if (this.#working?.id === request.id) this.#working.failure = status;
    });
    this.#working = { id: request.id, done, failure: undefined };
  }

  async #carryOut(folder: VersionsFolder, { id, to, image, timeout }: UpgradeAgentRequest): Promise<void> {
    const { version, handlers, restart, logger } = this.#deps;
    const { signal } = this.#closing;
    if (image === "") await checkRuns(folder.tree(to), to);
    else await this.#fetch(folder, to, image);
    signal.throwIfAborted();
    const seconds = timeout === undefined ? DEFAULT_SECONDS : Math.max(1, Math.ceil(durationMs(timeout) / 1_000));
    folder.place({ id, to, from: version, seconds, handlers });
    logger.info({ from: version, to }, "ordered to another version; containers go on");
    restart();
  }

  async #fetch(folder: VersionsFolder, to: string, image: string): Promise<void> {
    const archive = join(folder.path, "upgrade", "release.tar.gz");
    await mkdir(join(folder.path, "upgrade"), { recursive: true, mode: 0o755 });
    try {
      await fetchRelease(this.#deps.registry, image, archive, this.#closing.signal);
      const found = await stageArchive(folder, archive);
      if (found === to) return;
      throw new StatusError("INVALID_ARGUMENT", `image ${image} holds version ${found}, not ${to}`, {
        reason: "VERSION_OTHER",
      });
    } finally {
      await rm(archive, { force: true });
    }
  }

  #say(phase: Phase, message = ""): AgentUpgradeState {
    return create(AgentUpgradeStateSchema, { phase, message, version: this.#deps.version });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#working?.done;
  }
}
