/** A small HTTP server with `/metrics` and nothing else, for programs that have no other HTTP port. */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { StatusError, type Logger } from "@berth/base";
import type { Metrics } from "./metrics.ts";

export interface MetricsServer extends AsyncDisposable {
  readonly port: number;
}

export interface MetricsServerConfig {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

/** @throws UNAVAILABLE `METRICS_LISTEN_FAILED` when the address cannot be taken. */
export async function startMetricsServer(
  deps: { readonly metrics: Metrics; readonly logger: Logger },
  config: MetricsServerConfig,
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://metrics").pathname;
    if (path !== "/metrics") return reply(response, 404, "text/plain", "metrics are at /metrics\n");
    if (request.method !== "GET" && request.method !== "HEAD") return reply(response, 405, "text/plain", "use GET\n");
    deps.metrics.expose().then(
      ({ contentType, text }) => reply(response, 200, contentType, text),
      (error: unknown) => {
        deps.logger.error({ err: error }, "metrics could not be collected");
        reply(response, 500, "text/plain", "metrics could not be collected\n");
      },
    );
  });
  server.listen(config.port, config.host);
  try {
    await once(server, "listening");
  } catch (error) {
    throw new StatusError("UNAVAILABLE", `metrics cannot listen on ${config.host}:${config.port}`, {
      reason: "METRICS_LISTEN_FAILED",
      cause: error,
    });
  }
  server.unref();
  let closing: Promise<void> | undefined;
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => (closing ??= close(server)),
  };
}

function reply(response: ServerResponse, status: number, contentType: string, text: string): void {
  response.writeHead(status, { "content-type": contentType });
  response.end(text);
}

async function close(server: ReturnType<typeof createServer>): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}
