/**
 * Which images go for want of space: the least recently used ones that nothing protects, until a namespace is within its quota
 * and the disk below its low watermark.
 *
 * What an image's removal gives back is what nothing else refers to, on the whole host; so each thing on disk is counted
 * by the images that reach it, and an image that would free next to nothing is left alone.
 */
import type { GcConfig, GcItem } from "./gc.ts";
import type { Graph } from "./graph.ts";
import { DEEP } from "./graph.ts";
import type { ImageRoot } from "./rows.ts";
import { walk, type Visits, type WalkDeps } from "./mark.ts";

export interface DiskSpace {
  readonly totalBytes: number;
  readonly availableBytes: number;
}

export interface PressureDeps {
  readonly walk: WalkDeps;
  /** Of snapshots whose size no row says. */
  readonly sizeOf: (key: string) => Promise<number>;
  /** Is the image being pulled, or used since the graph was read? */
  readonly isBusy: (key: string) => boolean;
  readonly disk: DiskSpace | undefined;
}

export interface Eviction {
  readonly image: ImageRoot;
  readonly key: string;
  readonly bytes: number;
  readonly reason: string;
}

export interface Pressure {
  readonly evictions: readonly Eviction[];
  /** Candidates that stay, and why. */
  readonly kept: readonly GcItem[];
  readonly shortfall: string | undefined;
}

/** Of what it reaches, an image must give this much to be worth evicting. */
const WORTH_SHARE = 0.01;

interface Closure {
  readonly image: ImageRoot;
  readonly key: string;
  /** Of what it reaches: graph keys. */
  readonly reached: readonly string[];
}

/** @param kept what roots other than images reach */
export async function relieve(
  deps: PressureDeps,
  config: GcConfig,
  without: ReadonlySet<string>,
  kept: Visits,
): Promise<Pressure> {
  const overQuota = quotas(config);
  const need = deps.disk === undefined ? undefined : needed(deps.disk, config);
  if (need === undefined && overQuota === undefined) return { evictions: [], kept: [], shortfall: undefined };
  const space = await Space.measure(deps, without, kept);
  const evictions: Eviction[] = [];
  const shortfalls: string[] = [];
  if (overQuota !== undefined) {
    for (const namespace of space.namespaces()) {
      const quota = overQuota(namespace);
      if (quota <= 0) continue;
      const excess = space.usedBy(namespace) - quota;
      if (excess <= 0) continue;
      const freed = space.evict(
        excess,
        namespace,
        () => `least recently used, over the namespace's quota of ${size(quota)}`,
      );
      evictions.push(...freed.evictions);
      if (freed.missing > 0) shortfalls.push(`namespace "${namespace}" stays ${size(freed.missing)} over its quota`);
    }
  }
  if (need !== undefined) {
    const { highPercent } = config.watermarks!;
    const reason = (): string => `least recently used, high watermark ${highPercent} %`;
    const freed = space.evict(need - space.garbageBytes(), undefined, reason);
    evictions.push(...freed.evictions);
    if (freed.missing > 0) shortfalls.push(`the disk stays ${size(freed.missing)} above its low watermark`);
  }
  const shortfall = shortfalls.length === 0 ? undefined : `${shortfalls.join("; ")}: ${space.protectedInWords()}`;
  return { evictions, kept: space.protectedImages(), shortfall };
}

/** Bytes that must become free; undefined below the high watermark. */
export function needed({ totalBytes, availableBytes }: DiskSpace, { watermarks }: GcConfig): number | undefined {
  if (watermarks === undefined || totalBytes === 0) return undefined;
  const used = totalBytes - availableBytes;
  if (used <= (totalBytes * watermarks.highPercent) / 100) return undefined;
  return used - (totalBytes * watermarks.lowPercent) / 100;
}

export function quotas({
  cacheQuotaBytes = 0,
  cacheQuotas = {},
}: GcConfig): ((namespace: string) => number) | undefined {
  if (cacheQuotaBytes <= 0 && Object.keys(cacheQuotas).length === 0) return undefined;
  return (namespace) => cacheQuotas[namespace] ?? cacheQuotaBytes;
}

class Space {
  readonly #deps: PressureDeps;
  readonly #graph: Graph;
  readonly #closures: Closure[] = [];
  readonly #protected = new Map<string, string>();
  /** By thing on disk. */
  readonly #sizes = new Map<string, number>();
  readonly #counts = new Map<string, number>();
  /** By namespace, then by its own key. */
  readonly #within = new Map<string, Map<string, number>>();

  static async measure(deps: PressureDeps, without: ReadonlySet<string>, kept: Visits): Promise<Space> {
    const space = new Space(deps);
    await space.#measure(without, kept);
    return space;
  }

  private constructor(deps: PressureDeps) {
    this.#deps = deps;
    this.#graph = deps.walk.graph;
  }

  namespaces(): readonly string[] {
    return [...this.#within.keys()];
  }

  /** What the namespace's images take, each thing once. */
  usedBy(namespace: string): number {
    let used = 0;
    for (const key of this.#within.get(namespace)?.keys() ?? []) used += this.#sizeOf(key);
    return used;
  }

  /** What nothing at all refers to. */
  garbageBytes(): number {
    let bytes = 0;
    for (const [physical, count] of this.#counts) if (count === 0) bytes += this.#sizes.get(physical) ?? 0;
    return bytes;
  }

  protectedImages(): readonly GcItem[] {
    return this.#closures.flatMap(({ key, image, reached }) => {
      const reason = this.#protected.get(key);
      if (reason === undefined) return [];
      const bytes = reached.reduce((sum, each) => sum + this.#sizeOf(each), 0);
      return [{ kind: "image" as const, namespace: image.namespace, key: image.name, bytes, reason }];
    });
  }

  protectedInWords(): string {
    const by = Map.groupBy(this.#protected.values(), (reason) => reason.split(" ", 2).join(" "));
    const words = [...by].map(([reason, all]) => `${all.length} ${reason}`);
    return words.length === 0 ? "no image is left that could go" : `images that stay: ${words.join(", ")}`;
  }

  /** Takes images, the least recently used first, until so much would be free; `missing` is what they do not give. */
  evict(
    bytes: number,
    namespace: string | undefined,
    reason: () => string,
  ): { readonly evictions: Eviction[]; readonly missing: number } {
    if (bytes <= 0) return { evictions: [], missing: 0 };
    const candidates = this.#closures
      .filter(({ key, image }) => !this.#protected.has(key) && (namespace ?? image.namespace) === image.namespace)
      .sort((a, b) => a.image.usedAtMs - b.image.usedAtMs);
    const counts = namespace === undefined ? this.#counts : this.#within.get(namespace)!;
    const unit = (key: string): string => (namespace === undefined ? this.#physical(key) : key);
    let freed = 0;
    const chosen: Closure[] = [];
    for (const closure of candidates) {
      if (freed >= bytes) break;
      chosen.push(closure);
      for (const key of closure.reached) {
        const left = counts.get(unit(key))! - 1;
        counts.set(unit(key), left);
        if (left === 0) freed += this.#sizeOf(key);
      }
    }
    return { evictions: this.#settle(chosen, counts, unit, reason, namespace), missing: Math.max(0, bytes - freed) };
  }

  /** Leaves out the images whose going would give nothing, and tells the other counts of those that go. */
  #settle(
    chosen: readonly Closure[],
    counts: Map<string, number>,
    unit: (key: string) => string,
    reason: () => string,
    namespace: string | undefined,
  ): Eviction[] {
    const evictions: Eviction[] = [];
    const told = new Set<string>();
    for (const closure of chosen) {
      const { image, key, reached } = closure;
      if (!this.#isWorthIt(reached, (each) => counts.get(unit(each)) === 0)) {
        for (const each of reached) counts.set(unit(each), counts.get(unit(each))! + 1);
        continue;
      }
      this.#closures.splice(this.#closures.indexOf(closure), 1);
      let bytes = 0;
      for (const each of reached) {
        if (counts.get(unit(each)) === 0 && !told.has(unit(each))) bytes += this.#sizeOf(each);
        told.add(unit(each));
        this.#release(image.namespace, each, namespace === undefined);
      }
      evictions.push({ image, key, bytes, reason: reason() });
    }
    return evictions;
  }

  /** Does an image's going give more than crumbs? Not while another one needs its layers. */
  #isWorthIt(reached: readonly string[], isFreed: (key: string) => boolean): boolean {
    let all = 0;
    let freed = 0;
    for (const key of reached) {
      all += this.#sizeOf(key);
      if (isFreed(key)) freed += this.#sizeOf(key);
    }
    return freed > 0 && freed >= all * WORTH_SHARE;
  }

  /** In the counts that `evict` did not take it from itself. */
  #release(namespace: string, key: string, isPhysicalDone: boolean): void {
    const [counts, unit] = isPhysicalDone ? [this.#within.get(namespace)!, key] : [this.#counts, this.#physical(key)];
    const left = counts.get(unit)! - 1;
    if (left <= 0 && isPhysicalDone) counts.delete(unit);
    else counts.set(unit, left);
  }

  async #measure(without: ReadonlySet<string>, kept: Visits): Promise<void> {
    const { slices } = this.#deps.walk;
    for (const node of this.#graph.nodes.values()) {
      if (slices.due) await slices.pause();
      // What other roots keep counts as in use for ever.
      if (kept.has(node.key)) this.#counts.set(node.physical, Number.POSITIVE_INFINITY);
      else if (!this.#counts.has(node.physical)) this.#counts.set(node.physical, 0);
      if (!this.#sizes.has(node.physical)) {
        this.#sizes.set(node.physical, node.bytes ?? (await this.#deps.sizeOf(node.key)));
      }
    }
    for (const [key, image] of this.#graph.images) {
      if (without.has(key)) continue;
      await this.#measureImage(key, image, kept);
    }
  }

  async #measureImage(key: string, image: ImageRoot, kept: Visits): Promise<void> {
    const visits: Visits = new Map();
    await walk(this.#deps.walk, visits, [{ key, reach: DEEP }]);
    const reached = [...visits.keys()].filter((each) => this.#graph.nodes.has(each));
    this.#closures.push({ image, key, reached });
    let within = this.#within.get(image.namespace);
    if (within === undefined) this.#within.set(image.namespace, (within = new Map<string, number>()));
    for (const each of reached) {
      within.set(each, (within.get(each) ?? 0) + 1);
      this.#counts.set(this.#physical(each), this.#counts.get(this.#physical(each))! + 1);
    }
    const hold = this.#graph.imageHolds.get(key) ?? this.#heldBy(key, kept);
    if (hold !== undefined) this.#protected.set(key, hold);
    else if (this.#deps.isBusy(key)) this.#protected.set(key, "being pulled or just used");
  }

  /** By a root that reaches the name itself, or the target and so all of it. */
  #heldBy(key: string, kept: Visits): string | undefined {
    if (kept.has(key)) return "referred to by a label";
    const target = this.#graph.targets.get(key)!;
    return kept.get(target) === DEEP ? (this.#graph.roots.get(target)?.reason ?? "leased with its content") : undefined;
  }

  #physical(key: string): string {
    return this.#graph.nodes.get(key)!.physical;
  }

  #sizeOf(key: string): number {
    return this.#sizes.get(this.#physical(key)) ?? 0;
  }
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
