export { createLogger, type LoggerOptions } from "./logger.ts";
export {
  LATENCY_BUCKETS,
  Metrics,
  type CounterInstrument,
  type GaugeInstrument,
  type HistogramInstrument,
  type InstrumentOptions,
  type Labels,
} from "./metrics.ts";
export { startMetricsServer, type MetricsServer, type MetricsServerConfig } from "./metrics-server.ts";
export { redact } from "./redact.ts";
