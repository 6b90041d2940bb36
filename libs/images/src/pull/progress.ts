/** How far a pull is, for people: monotonic, and told at most every 100 ms but for changes of phase. */
import type { Descriptor } from "@berth/model";
import type { LayerProgress, PullPhase, PullProgress } from "../images.ts";

const INTERVAL_MS = 100;

export class ProgressTracker implements Disposable {
  readonly #namespace: string;
  readonly #image: string;
  readonly #tell: (progress: PullProgress) => void;
  readonly #monotonicMs: () => number;
  #phase: PullPhase = "resolving";
  #layers: LayerProgress[] = [];
  #lastMs = Number.NEGATIVE_INFINITY;
  #later: NodeJS.Timeout | undefined;

  constructor(namespace: string, image: string, tell: (progress: PullProgress) => void, monotonicMs: () => number) {
    this.#namespace = namespace;
    this.#image = image;
    this.#tell = tell;
    this.#monotonicMs = monotonicMs;
  }

  start(layers: readonly Descriptor[]): void {
    this.#layers = layers.map(({ digest, size }) => ({ digest, state: "waiting", offsetBytes: 0, totalBytes: size }));
    this.phase("downloading");
  }

  phase(phase: PullPhase): void {
    if (phase === this.#phase && phase !== "resolving") return;
    this.#phase = phase;
    this.#emit();
  }

  state(index: number, state: LayerProgress["state"]): void {
    const layer = this.#layers[index]!;
    if (layer.state === state || layer.state === "exists" || layer.state === "done") return;
    const whole = state === "exists" || state === "done" ? layer.totalBytes : layer.offsetBytes;
    this.#layers[index] = { ...layer, state, offsetBytes: whole };
    this.#emitSoon();
  }

  /** Bytes downloaded. */
  offset(index: number, offsetBytes: number): void {
    const layer = this.#layers[index]!;
    if (offsetBytes <= layer.offsetBytes) return;
    this.#layers[index] = { ...layer, offsetBytes: Math.min(offsetBytes, layer.totalBytes) };
    this.#emitSoon();
  }

  current(): PullProgress {
    const sum = (pick: (layer: LayerProgress) => number): number =>
      this.#layers.reduce((all, one) => all + pick(one), 0);
    return {
      namespace: this.#namespace,
      image: this.#image,
      phase: this.#phase,
      offsetBytes: sum((layer) => layer.offsetBytes),
      totalBytes: sum((layer) => layer.totalBytes),
      layers: [...this.#layers],
    };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#later);
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
    this.#tell(this.current());
  }
}
