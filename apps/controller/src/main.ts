/**
 * The controller's process: configuration in, signals, exit codes.
 *
 * `--store-restored` notes that Postgres was put back from a copy, and ends: for before the first controller starts.
 * BERTH_CONTROLLER_CONFIG or `--config FILE` names a YAML or JSON file; the environment wins over it. The first SIGTERM or
 * SIGINT stops gracefully, the second at once. Exit codes: 0 stopped, 1 failed, 2 the configuration or an argument is wrong.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { StatusError } from "@berth/base";
import { loadControllerConfig } from "@berth/config";
import { createLogger } from "@berth/telemetry";
import { startController } from "./controller.ts";
import { declareRestored } from "./restore/declare.ts";

const VERSION = (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string })
  .version;

const STOP_SLACK_MS = 15_000;

process.env["GRPC_VERBOSITY"] ??= "NONE";

async function main(): Promise<number> {
  const values = argumentsGiven();
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.version === true) {
    process.stdout.write(`${VERSION}\n`);
    return 0;
  }
  const file = values.config ?? process.env["BERTH_CONTROLLER_CONFIG"];
  const config = await loadControllerConfig({ file: file === "" ? undefined : file, env: process.env });
  const logger = createLogger({ name: "controller", level: config.logLevel });
  if (values["store-restored"] === true) {
    process.stdout.write(`${await declareRestored({ logger }, config)}\n`);
    return 0;
  }
  const stop = stopSignal();
  const controller = await startController({ logger, version: VERSION }, config);
  logger.info({ signal: await stop }, "stopping");
  // What holds the end up beyond its grace is a mistake of ours; whoever started us must not wait for it.
  const late = setTimeout(() => {
    logger.error({}, "not stopped in time; ending at once");
    process.exit(1);
  }, config.drainGraceMs + STOP_SLACK_MS);
  await controller[Symbol.asyncDispose]();
  clearTimeout(late);
  logger.info({}, "stopped");
  return 0;
}

const HELP = `Usage: berth-controller [--config FILE] | --store-restored | --version

Without more: runs a controller until SIGTERM or SIGINT.

  --config FILE      its configuration, YAML or JSON (default: BERTH_CONTROLLER_CONFIG; the environment wins over it)
  --store-restored   note that Postgres was put back from a copy, and end: before the first controller is started
  --version          print the version

Example:
  berth-controller --config /etc/berth/controller.yaml
`;

/** @throws INVALID_ARGUMENT `USAGE` */
function argumentsGiven() {
  const boolean = { type: "boolean" } as const;
  const options = { config: { type: "string" }, version: boolean, help: boolean, "store-restored": boolean } as const;
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    const message = `${(error as Error).message.replace(/\.? To specify.*$/s, "")}; see berth-controller --help`;
    throw new StatusError("INVALID_ARGUMENT", message, { reason: "USAGE", cause: error });
  }
}

/** Resolves with the first signal; the second ends the process. */
function stopSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let asked = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (asked) process.exit(1);
      asked = true;
      resolve(signal);
    });
  }
  return promise;
}

function report(error: unknown): number {
  const status = StatusError.from(error);
  process.stderr.write(`berth-controller: ${status.message}\n`);
  if (status.reason === "USAGE" || status.reason === "CONFIG_INVALID" || status.reason === "CONFIG_UNREADABLE")
    return 2;
  if (!(error instanceof StatusError) && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return 1;
}

// Ends the process itself: a driver that lost its server now and then keeps a socket or timer after it was closed.
process.exit(await main().catch(report));
