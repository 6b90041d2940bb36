/**
 * How far a pull is, for people: told at most every 100 ms but for changes of phase.
 *
 * Invariants:
 *  - Nothing goes back: neither offsets (also when a transfer has to start over), nor states, nor the phase.
 *  - What an earlier pull left of a layer counts at once, but not into the rate.
 */
import type { Descriptor } from "@berth/model";
import type { LayerProgress, PullPhase, PullProgress } from "../images.ts";

const INTERVAL_MS = 100;
/** The rate is that of the last seconds. */
const RATE_WINDOW_MS = 5_000;
const PHASES: readonly PullPhase[] = ["resolving", "downloading", "unpacking", "done", "failed"];
const STATES: readonly LayerProgress["state"][] = ["waiting", "downloading", "unpacking", "done", "exists"];

interface Sample {
  readonly atMs: number;
  readonly fetchedBytes: number;
}

export class ProgressTracker implements Disposable {
  readonly #namespace: string;
  readonly #image: string;
  readonly #tell: (progress: PullProgress) => void;
  readonly #monotonicMs: () => number;
  #phase: PullPhase = "resolving";
  #told: PullPhase | undefined;
  #layers: LayerProgress[] = [];
  /** Came over the network in this pull. */
  #fetchedBytes = 0;
  #samples: Sample[] = [];
  #lastMs = Number.NEGATIVE_INFINITY;
  #later: NodeJS.Timeout | undefined;

  constructor(namespace: string, image: string, tell: (progress: PullProgress) => void, monotonicMs: () => number) {
    this.#namespace = namespace;
    this.#image = image;
    this.#tell = tell;
    this.#monotonicMs = monotonicMs;
  }

  /** @param keptBytes what an earlier pull left, by layer */
  start(layers: readonly Descriptor[], keptBytes: readonly number[] = []): void {
    this.#layers = layers.map(({ digest, size }, index) => {
      const offsetBytes = Math.min(keptBytes[index] ?? 0, size);
      return { digest, state: "waiting", offsetBytes, totalBytes: size };
    });
    this.phase("downloading");
  }

  phase(phase: PullPhase): void {
    if (PHASES.indexOf(phase) > PHASES.indexOf(this.#phase)) this.#phase = phase;
    if (this.#told !== this.#phase) this.#emit();
  }

  state(index: number, state: LayerProgress["state"]): void {
    const layer = this.#layers[index]!;
    if (STATES.indexOf(state) <= STATES.indexOf(layer.state) || layer.state === "done") return;
    const whole = state === "exists" || state === "done" || state === "unpacking";
    this.#layers[index] = { ...layer, state, offsetBytes: whole ? layer.totalBytes : layer.offsetBytes };
    this.#changed();
  }

  /** Bytes downloaded, those that were there included. */
  offset(index: number, offsetBytes: number): void {
    const layer = this.#layers[index]!;
    const reached = Math.min(offsetBytes, layer.totalBytes);
    if (reached <= layer.offsetBytes) return;
    if (layer.state === "downloading") this.#fetchedBytes += reached - layer.offsetBytes;
    this.#layers[index] = { ...layer, offsetBytes: reached };
    this.#changed();
  }

  current(): PullProgress {
    const sum = (pick: (layer: LayerProgress) => number): number =>
      this.#layers.reduce((all, one) => all + pick(one), 0);
    const [offsetBytes, totalBytes] = [sum((layer) => layer.offsetBytes), sum((layer) => layer.totalBytes)];
    const rateBytesPerSecond = this.#rate();
    const etaMs =
      rateBytesPerSecond > 0 ? Math.ceil(((totalBytes - offsetBytes) / rateBytesPerSecond) * 1000) : undefined;
    return {
      namespace: this.#namespace,
      image: this.#image,
      phase: this.#phase,
      offsetBytes,
      totalBytes,
      rateBytesPerSecond,
      ...(etaMs === undefined ? {} : { etaMs }),
      layers: [...this.#layers],
    };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#later);
  }

  #changed(): void {
    const fetched = this.#layers.length > 0 && this.#layers.every((layer) => layer.offsetBytes === layer.totalBytes);
    if (fetched && this.#phase === "downloading") this.phase("unpacking");
    else this.#emitSoon();
  }

  #rate(): number {
    const atMs = this.#monotonicMs();
    this.#samples = this.#samples.filter((one) => atMs - one.atMs <= RATE_WINDOW_MS);
    this.#samples.push({ atMs, fetchedBytes: this.#fetchedBytes });
    const first = this.#samples[0]!;
    const elapsedMs = atMs - first.atMs;
    return elapsedMs <= 0 ? 0 : Math.round(((this.#fetchedBytes - first.fetchedBytes) / elapsedMs) * 1000);
  }

  #emitSoon(): void {
    const waitMs = INTERVAL_MS - (this.#monotonicMs() - this.#lastMs);
    if (waitMs <= 0) this.#emit();
    else this.#later ??= setTimeout(() => this.#emit(), waitMs).unref();
  }

  #emit(): void {
    clearTimeout(this.#later);
    this.#later = undefined;
    this.#lastMs = this.#monotonicMs();
    this.#told = this.#phase;
    this.#tell(this.current());
  }
}
