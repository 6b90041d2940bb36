/**
 * `berth status`: one screen that tells whether the fleet is healthy, what is uncertain and until when, what is stuck and why.
 * Its exit code tells the same: 0 healthy, 1 something is to be looked at, 6 the controller or its store cannot be reached.
 */
import { toJson } from "@bufbuild/protobuf";
import { hasCode, StatusError } from "@berth/base";
import { FleetStatusSchema, HealthService, StatusService, type FleetStatus } from "@berth/proto";
import { ExitWith } from "../exit-code.ts";
import { formatDocuments, parseOutput } from "../output/format.ts";
import { statusScreen } from "../output/status-screen.ts";
import type { Session } from "../session.ts";

export async function status(
  session: Session,
  options: { readonly output: string; readonly all?: boolean },
): Promise<void> {
  const output = parseOutput(options.output);
  const fleet = await ask(session);
  if (output === "json" || output === "yaml") {
    session.out(await formatDocuments(output, [toJson(FleetStatusSchema, fleet, { alwaysEmitImplicit: true })], true));
  } else {
    const columns = session.stdout.isTTY ? (session.stdout.columns ?? 80) : Number.POSITIVE_INFINITY;
    const screen = { paint: session.paint, columns, wide: output === "wide", all: options.all === true };
    session.out(statusScreen(fleet, screen).join("\n"));
  }
  if (fleet.verdict !== "healthy") throw new ExitWith(1);
}

/** Without its store a controller cannot tell of the fleet, but it can of itself. @throws UNAVAILABLE with what it says */
async function ask(session: Session): Promise<FleetStatus> {
  try {
    return await session.client(StatusService).getFleetStatus({});
  } catch (error) {
    if (!hasCode(error, "UNAVAILABLE") || StatusError.from(error).reason === "ENDPOINT_UNREACHABLE") throw error;
    const health = await session.client(HealthService).getHealth({});
    const away = health.checks.filter(({ ok }) => !ok).map(({ name, message }) => `${name}: ${message}`);
    const why = away.length === 0 ? StatusError.from(error).message : away.join("; ");
    throw new StatusError("UNAVAILABLE", `the controller answers, but cannot tell of the fleet: ${why}`, {
      cause: error,
    });
  }
}
