/**
 * Gauges of every running container that are measured together: once at each scrape, whichever of them is asked first, and
 * each shows what that measurement found.
 */
import type { Logger } from "@berth/base";
import type { GaugeInstrument, Metrics } from "@berth/telemetry";
import type { Container } from "./engine/container.ts";
import type { Engine } from "./engine/engine.ts";

export interface ContainerGaugesDeps {
  readonly metrics: Metrics;
  readonly engine: () => Pick<Engine, "running"> | undefined;
  readonly logger: Logger;
}

type Running = ReturnType<Engine["running"]>[number];
type Gauge = GaugeInstrument<(typeof LABELS)[number]>;

const LABELS = ["namespace", "id", "name"] as const;

/** `help` by the gauge's name; `measure` gives values by the same names, none for what is not known. */
export function registerContainerGauges<Name extends string>(
  { metrics, engine, logger }: ContainerGaugesDeps,
  help: Readonly<Record<Name, string>>,
  measure: (running: Running) => Promise<Readonly<Partial<Record<Name, number | undefined>>>>,
): void {
  const gauges = new Map<Name, Gauge>();
  const measureAll = async (): Promise<void> => {
    for (const gauge of gauges.values()) gauge.clear();
    for (const running of engine()?.running() ?? []) {
      const { container } = running;
      try {
        const values = await measure(running);
        for (const [name, gauge] of gauges) set(gauge, container, values[name]);
      } catch (error) {
        logger.debug({ id: container.id, err: error }, "a container was not measured");
      }
    }
  };
  // All are asked in one go at a scrape, and all wait for the same measurement.
  let measuring: Promise<void> | undefined;
  const collect = (): Promise<void> => (measuring ??= measureAll().finally(() => (measuring = undefined)));
  for (const [name, text] of Object.entries<string>(help) as [Name, string][]) {
    gauges.set(name, metrics.gauge({ name, help: text, labels: LABELS, collect }));
  }
}

function set(gauge: Gauge, { namespace, id, name }: Container, value: number | undefined): void {
  if (value !== undefined) gauge.set({ namespace, id, name }, value);
}
