/**
 * Metric instruments with names checked at the type level: a registry of its own per program (never prom-client's global
 * one), and instruments whose labels are known where they are used.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

export type Labels<L extends string> = Readonly<Record<L, string>>;

export interface CounterInstrument<L extends string = never> {
  add(labels: Labels<L>, by?: number): void;
}

export interface GaugeInstrument<L extends string = never> {
  set(labels: Labels<L>, value: number): void;
  /** Forgets all label sets, so that what is gone is no longer shown. */
  clear(): void;
}

export interface HistogramInstrument<L extends string = never> {
  /** Seconds, bytes: whatever the name ends with. */
  observe(labels: Labels<L>, value: number): void;
}

export interface InstrumentOptions<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly L[];
}

/** From 1 ms to 30 s, for latencies in seconds. */
export const LATENCY_BUCKETS: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

/**
 * How often it is looked whether Node's event loop is late. The default, 10 ms, is most of what wakes a program that has nothing to
 * do; what stands still for less than this is no trouble to anybody.
 */
const EVENT_LOOP_LOOK_MS = 100;

export class Metrics {
  readonly registry = new Registry();

  /** @param options.processMetrics adds Node's own (memory, CPU, event loop), at the cost of a timer */
  constructor(options: { readonly processMetrics?: boolean } = {}) {
    if (options.processMetrics === false) return;
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: EVENT_LOOP_LOOK_MS });
  }

  counter<L extends string = never>(options: InstrumentOptions<L>): CounterInstrument<L> {
    const counter = new Counter<L>({ ...this.#common(options) });
    return { add: (labels, by = 1) => counter.inc(labels, by) };
  }

  /** `collect` is asked at every scrape; it may set the gauge then. */
  gauge<L extends string = never>(
    options: InstrumentOptions<L> & { readonly collect?: (gauge: GaugeInstrument<L>) => void | Promise<void> },
  ): GaugeInstrument<L> {
    const { collect } = options;
    const gauge: Gauge<L> = new Gauge<L>({
      ...this.#common(options),
      ...(collect === undefined ? {} : { collect: () => collect(instrument) }),
    });
    const instrument: GaugeInstrument<L> = {
      set: (labels, value) => gauge.set(labels, value),
      clear: () => gauge.reset(),
    };
    return instrument;
  }

  histogram<L extends string = never>(
    options: InstrumentOptions<L> & { readonly buckets?: readonly number[] },
  ): HistogramInstrument<L> {
    const histogram = new Histogram<L>({
      ...this.#common(options),
      buckets: [...(options.buckets ?? LATENCY_BUCKETS)],
    });
    return { observe: (labels, value) => histogram.observe(labels, value) };
  }

  /** The exposition text and its content type. */
  async expose(): Promise<{ readonly contentType: string; readonly text: string }> {
    return { contentType: this.registry.contentType, text: await this.registry.metrics() };
  }

  #common<L extends string>(
    options: InstrumentOptions<L>,
  ): {
    name: string;
    help: string;
    labelNames: L[];
    registers: Registry[];
  } {
    return {
      name: options.name,
      help: options.help,
      labelNames: [...(options.labels ?? [])],
      registers: [this.registry],
    };
  }
}
