/**
 * The network of a host: a namespace file per attachment, connected to one bridge by CNI plugins.
 *
 * Owns the records, the namespace files under `STATE/netns` and the leases under `STATE/ipam`. Works in whichever network
 * namespace the agent runs. Does not know containers: who is alive is told to `sweep`.
 */
import { readdirSync, rmdirSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { KeyedLock, Semaphore, StatusError, uuidv7 } from "@berth/base";
import { createNetns, isMountPoint, listNetns, removeNetns } from "@berth/linux";
import type { AttachRequest, Attachment, Network } from "../network.ts";
import { addChain, checkChain, deleteChain, type ChainTarget } from "./chain.ts";
import { bridgeConflist } from "./conflist.ts";
import { resolveOptions, type CniNetworkOptions, type NetworkDeps, type NetworkOptions } from "./options.ts";
import { AttachmentRecords, type AttachmentRecord } from "./records.ts";
import { checkPortsFree, checkRequest } from "./request.ts";

/** Needs the rows of `networkMigrations`. @throws INVALID_ARGUMENT for bad options. */
export function createNetwork(deps: NetworkDeps, options: CniNetworkOptions): Promise<Network> {
  return Promise.resolve(new CniNetwork(resolveOptions(deps, options), new AttachmentRecords(deps.metadata)));
}

/** Plugin chains at once. They spend most of their time waiting for the kernel; more would only crowd the agent. */
const PARALLEL_CHAINS = 4;

class CniNetwork implements Network {
  readonly #options: NetworkOptions;
  readonly #records: AttachmentRecords;
  readonly #lock = new KeyedLock();
  readonly #chains = new Semaphore(PARALLEL_CHAINS);
  /** The first ADD makes the bridge and the base chains of iptables; it runs alone. */
  #bridgeMade: Promise<unknown> | undefined;

  constructor(options: NetworkOptions, records: AttachmentRecords) {
    this.#options = options;
    this.#records = records;
  }

  async attach(request: AttachRequest): Promise<Attachment> {
    checkRequest(request);
    return await this.#lock.run(lockKey(request), () => this.#attach(request));
  }

  get(namespace: string, id: string): Promise<Attachment | undefined> {
    const record = this.#records.get(namespace, id);
    return Promise.resolve(record?.phase === "attached" ? toAttachment(record) : undefined);
  }

  check(namespace: string, id: string): Promise<void> {
    return this.#lock.run(lockKey({ namespace, id }), async () => {
      const record = this.#records.get(namespace, id);
      if (record?.phase !== "attached") {
        throw new StatusError("NOT_FOUND", `${namespace}/${id} has no network`, { reason: "ATTACHMENT_NOT_FOUND" });
      }
      if (record.netnsPath !== undefined && !isMountPoint(record.netnsPath)) {
        throw new StatusError("FAILED_PRECONDITION", `network namespace of ${namespace}/${id} is gone`, {
          reason: "NETNS_GONE",
        });
      }
      const target = this.#target(record);
      if (target !== undefined && record.result !== undefined) await checkChain(target, record.result);
    });
  }

  detach(namespace: string, id: string): Promise<void> {
    return this.#lock.run(lockKey({ namespace, id }), async () => {
      const record = this.#records.get(namespace, id);
      if (record !== undefined) await this.#release(record);
    });
  }

  /** One that cannot be released stays on record and does not keep the others from being released; then it throws. */
  async sweep(alive: (namespace: string, id: string) => boolean): Promise<number> {
    const dead = this.#records.all().filter((record) => !alive(record.namespace, record.id));
    const outcomes = await Promise.allSettled(dead.map(({ namespace, id }) => this.detach(namespace, id)));
    const strays = (await this.#sweepNetns()) + (await this.#sweepLeases());
    const failed = outcomes.filter((outcome) => outcome.status === "rejected");
    if (failed.length === 1) throw failed[0]!.reason;
    if (failed.length > 1)
      throw new AggregateError(
        failed.map((outcome) => outcome.reason as unknown),
        "sweep failed",
      );
    return dead.length + strays;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  async #attach(request: AttachRequest): Promise<Attachment> {
    const before = this.#records.get(request.namespace, request.id);
    if (before !== undefined) {
      if (isUsable(before)) return sameAsBefore(before, request);
      await this.#release(before);
    }
    const record = await this.#register(request);
    try {
      if (record.netnsPath !== undefined) {
        removeNetns(record.netnsPath); // a file without a record: no one's
        await createNetns(record.netnsPath);
      }
      const result = await this.#connect(record);
      await this.#records.setPhase(record, "attached");
      return toAttachment({ ...record, phase: "attached", result });
    } catch (error) {
      await this.#release(this.#records.get(record.namespace, record.id) ?? record).catch((failure: unknown) => {
        const fields = { namespace: record.namespace, id: record.id, err: failure };
        this.#options.logger.warn(fields, "undoing a failed attachment failed; the next sweep tries again");
      });
      throw error;
    }
  }

  /** One at a time, so that two requests cannot both find a host port free. */
  #register(request: AttachRequest): Promise<AttachmentRecord> {
    return this.#lock.run("ports", async () => {
      const { namespace, id, mode, ports = [] } = request;
      checkPortsFree(request, ports.length === 0 ? [] : this.#records.all());
      const record: AttachmentRecord = {
        namespace,
        id,
        phase: "adding",
        mode,
        containerId: uuidv7(this.#options.clock.nowMs()),
        netnsPath: mode === "host" ? undefined : join(this.#options.stateDir, "netns", namespace, id),
        ports,
        conflist: mode === "bridge" ? bridgeConflist(this.#options, ports) : undefined,
        result: undefined,
        createdAtMs: this.#options.clock.nowMs(),
      };
      await this.#records.insert(record);
      return record;
    });
  }

  async #connect(record: AttachmentRecord): Promise<AttachmentRecord["result"]> {
    const target = this.#target(record);
    if (target === undefined) return undefined;
    await this.#bridgeMade?.catch(() => {});
    const adding = this.#chains.run(() => addChain(target, (result) => this.#records.keepResult(record, result)));
    this.#bridgeMade ??= adding;
    return await adding;
  }

  async #release(record: AttachmentRecord): Promise<void> {
    if (record.phase !== "removing") await this.#records.setPhase(record, "removing");
    const target = this.#target(record);
    // A file that is no namespace any more (a reboot) would make DEL fail; one that is not there does not.
    if (record.netnsPath !== undefined && !isMountPoint(record.netnsPath)) removeNetns(record.netnsPath);
    // DEL while the namespace is there: the bridge plugin finds the addresses whose rules it removes inside it.
    if (target !== undefined) await this.#chains.run(() => deleteChain(target, record.result));
    if (record.netnsPath !== undefined) {
      removeNetns(record.netnsPath);
      removeIfEmpty(join(record.netnsPath, ".."));
    }
    await this.#records.remove(record);
  }

  #target(record: AttachmentRecord): ChainTarget | undefined {
    const { conflist, netnsPath, containerId } = record;
    if (conflist === undefined || netnsPath === undefined) return undefined;
    return { binDir: this.#options.binDir, timeoutMs: this.#options.timeoutMs, conflist, containerId, netnsPath };
  }

  async #sweepNetns(): Promise<number> {
    const directory = join(this.#options.stateDir, "netns");
    let removed = 0;
    for (const namespace of await readdir(directory).catch(() => [])) {
      for (const { name, path } of listNetns(join(directory, namespace))) {
        removed += await this.#lock.run(lockKey({ namespace, id: name }), () => {
          if (this.#records.get(namespace, name) !== undefined) return Promise.resolve(0);
          removeNetns(path);
          return Promise.resolve(1);
        });
      }
      removeIfEmpty(join(directory, namespace));
    }
    return removed;
  }

  /** host-local keeps a file per address, whose first line is the container id. */
  async #sweepLeases(): Promise<number> {
    const directory = join(this.#options.stateDir, "ipam", this.#options.name);
    let removed = 0;
    for (const name of await readdir(directory).catch(() => [])) {
      if (!/^[\d.]+$/.test(name)) continue;
      const path = join(directory, name);
      const [owner = ""] = (await readFile(path, "utf8").catch(() => "")).split(/\r?\n/);
      if (this.#records.all().some((record) => record.containerId === owner.trim())) continue;
      await rm(path, { force: true });
      removed += 1;
    }
    return removed;
  }
}

function lockKey({ namespace, id }: { readonly namespace: string; readonly id: string }): string {
  return `attachment/${namespace}/${id}`;
}

function isUsable(record: AttachmentRecord): boolean {
  return record.phase === "attached" && (record.netnsPath === undefined || isMountPoint(record.netnsPath));
}

function sameAsBefore(record: AttachmentRecord, request: AttachRequest): Attachment {
  if (record.mode === request.mode && JSON.stringify(record.ports) === JSON.stringify(request.ports ?? [])) {
    return toAttachment(record);
  }
  const text = `${record.namespace}/${record.id} is attached already, with another mode or other ports; detach it first`;
  throw new StatusError("ALREADY_EXISTS", text, { reason: "ATTACHMENT_DIFFERS" });
}

function toAttachment(record: AttachmentRecord): Attachment {
  const { namespace, id, mode, netnsPath, result } = record;
  return {
    namespace,
    id,
    mode,
    netnsPath,
    addresses: (result?.ips ?? []).map(({ address }) => address.split("/")[0]!),
  };
}

function removeIfEmpty(directory: string): void {
  try {
    if (readdirSync(directory).length === 0) rmdirSync(directory);
  } catch {
    // not there, or not empty any more: somebody attached meanwhile
  }
}
