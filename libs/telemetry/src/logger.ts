/** Structured logs: pino behind the base library's Logger. One JSON object a line, time as ISO text, level as a word. */
import type { Logger } from "@berth/base";
import { pino, type DestinationStream } from "pino";
import { redact } from "./redact.ts";

export interface LoggerOptions {
  /** The program: `controller`, `agent`. */
  readonly name: string;
  readonly level?: "debug" | "info" | "warn" | "error" | undefined;
  /** Where lines go; standard error by default, so that standard output stays the program's own. */
  readonly destination?: DestinationStream;
}

export function createLogger(options: LoggerOptions): Logger {
  return pino(
    {
      name: options.name,
      level: options.level ?? "info",
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        bindings: (fields) => redact(fields) as Record<string, unknown>,
        log: (fields) => redact(fields) as Record<string, unknown>,
      },
      // The redaction above has made plain objects of errors already.
      serializers: { err: (value: unknown) => value },
    },
    options.destination ?? pino.destination({ dest: 2, sync: true }),
  );
}
