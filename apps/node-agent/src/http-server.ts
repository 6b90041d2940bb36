/** The agent's small HTTP port: `/metrics` for Prometheus, `/healthz` for whoever watches the process. */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { StatusError, type Logger } from "@berth/base";
import type { Metrics } from "@berth/telemetry";

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
}

export interface HttpDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Shown at /healthz. The agent is healthy while it can run containers; a controller that is away is not its illness. */
  readonly health: () => Readonly<Record<string, unknown>>;
}

/** @throws UNAVAILABLE `METRICS_LISTEN_FAILED` when the address cannot be taken. */
export async function startHttpServer(
  deps: HttpDeps,
  address: { readonly host: string; readonly port: number },
): Promise<HttpServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?")[0];
    if (request.method !== "GET" && request.method !== "HEAD") return reply(response, 405, "text/plain", "use GET\n");
    if (path === "/healthz") return reply(response, 200, "application/json", `${JSON.stringify(deps.health())}\n`);
    if (path !== "/metrics") return reply(response, 404, "text/plain", "there are /metrics and /healthz\n");
    deps.metrics.expose().then(
      ({ contentType, text }) => reply(response, 200, contentType, text),
      (error: unknown) => {
        deps.logger.error({ err: error }, "metrics could not be collected");
        reply(response, 500, "text/plain", "metrics could not be collected\n");
      },
    );
  });
  server.listen(address.port, address.host);
  try {
    await once(server, "listening");
  } catch (error) {
    const text = `metrics cannot listen on ${address.host}:${address.port}: ${(error as Error).message}; set metricsListen`;
    throw new StatusError("UNAVAILABLE", text, { reason: "METRICS_LISTEN_FAILED", cause: error });
  }
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

function reply(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, { "content-type": type });
  response.end(text);
}
