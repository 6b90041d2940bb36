/** The fleet's probes as the engine's, with every default filled in. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import type { ContainerSpec, Probe } from "@berth/proto";
import type { ContainerPlan } from "../../engine/plan.ts";
import type { ProbeCheck, ProbePlan } from "../../engine/health/probe-plan.ts";

const MIN_INTERVAL_MS = 100;
const MIN_TIMEOUT_MS = 50;

export function healthOf({ health }: ContainerSpec): Pick<ContainerPlan, "health"> {
  if (health === undefined) return {};
  const { startup, readiness, liveness } = health;
  if (startup === undefined && readiness === undefined && liveness === undefined) return {};
  return {
    health: {
      ...(startup === undefined ? {} : { startup: probeOf(startup) }),
      ...(readiness === undefined ? {} : { readiness: probeOf(readiness) }),
      ...(liveness === undefined ? {} : { liveness: probeOf(liveness) }),
    },
  };
}

function probeOf(probe: Probe): ProbePlan {
  const { initialDelay, interval, timeout } = probe;
  return {
    check: checkOf(probe),
    initialDelayMs: initialDelay === undefined ? 0 : durationMs(initialDelay),
    intervalMs: interval === undefined ? 10_000 : Math.max(MIN_INTERVAL_MS, durationMs(interval)),
    timeoutMs: timeout === undefined ? 1_000 : Math.max(MIN_TIMEOUT_MS, durationMs(timeout)),
    failureThreshold: probe.failureThreshold || 3,
    successThreshold: probe.successThreshold || 1,
  };
}

function checkOf({ exec, http, tcp }: Probe): ProbeCheck {
  if (exec !== undefined) return { kind: "exec", command: exec.command };
  if (http !== undefined) return { kind: "http", port: http.port, path: http.path === "" ? "/" : http.path };
  if (tcp !== undefined) return { kind: "tcp", port: tcp.port };
  throw new StatusError("INVALID_ARGUMENT", "a probe asks nothing: it has none of exec, http and tcp");
}
