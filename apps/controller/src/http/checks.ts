/** Whether the servers that a controller needs can be reached: asked together, each within a bound, remembered for a moment. */
import { StatusError } from "@berth/base";

export interface Check {
  readonly name: "postgres" | "redis" | "nats";
  /** Rejects when it cannot be reached. */
  readonly ask: () => Promise<void>;
}

export interface CheckResult {
  readonly name: string;
  readonly ok: boolean;
  readonly message: string;
  readonly latencyMs: number;
}

export interface Checks {
  run(): Promise<readonly CheckResult[]>;
}

const TIMEOUT_MS = 2_000;
/** So that a crowd of probes asks once. */
const FRESH_MS = 500;

export function makeChecks(checks: readonly Check[]): Checks {
  let last: { readonly atMs: number; readonly results: Promise<readonly CheckResult[]> } | undefined;
  return {
    run() {
      if (last === undefined || performance.now() - last.atMs > FRESH_MS) {
        last = { atMs: performance.now(), results: Promise.all(checks.map(ask)) };
      }
      return last.results;
    },
  };
}

async function ask({ name, ask: question }: Check): Promise<CheckResult> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
  const startedMs = performance.now();
  const latencyMs = (): number => Math.round((performance.now() - startedMs) * 10) / 10;
  try {
    await Promise.race([question(), late.promise]);
    return { name, ok: true, message: "", latencyMs: latencyMs() };
  } catch (error) {
    return { name, ok: false, message: StatusError.from(error).message, latencyMs: latencyMs() };
  } finally {
    clearTimeout(timer);
  }
}
