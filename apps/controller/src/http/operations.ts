/** What the HTTP port answers besides the API: probes, metrics, the API's description. None of it needs a token. */
import type { FastifyInstance } from "fastify";
import type { DescService } from "@bufbuild/protobuf";
import { HealthService } from "@berth/proto";
import { openApiDocument } from "@berth/rpc/server";
import type { Metrics } from "@berth/telemetry";
import type { Checks } from "./checks.ts";

export interface OperationsDeps {
  readonly checks: Checks;
  readonly metrics: Metrics;
  readonly services: readonly DescService[];
  readonly version: string;
}

export function operationRoutes({
  checks,
  metrics,
  services,
  version,
}: OperationsDeps): (app: FastifyInstance) => void {
  const document = JSON.stringify(openApiDocument(services, { version, open: [HealthService.method.getHealth] }));
  return (app) => {
    // Alive: this answer. A supervisor restarts what does not give it.
    app.get("/healthz", async () => ({ status: "alive" }));
    app.get("/readyz", async (_request, reply) => {
      const results = await checks.run();
      const ready = results.every(({ ok }) => ok);
      return reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "degraded", checks: results });
    });
    app.get("/metrics", async (_request, reply) => {
      const { contentType, text } = await metrics.expose();
      return reply.type(contentType).send(text);
    });
    app.get("/openapi.json", async (_request, reply) => reply.type("application/json").send(document));
  };
}
