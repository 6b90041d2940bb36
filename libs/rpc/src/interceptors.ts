/** What happens to every call, whatever its transport: authentication, validation, metrics, logs. */
import type { DescMethod } from "@bufbuild/protobuf";
import { StatusError, type Logger } from "@berth/base";
import type { Interceptor } from "./invoker.ts";
import { methodName, type Principal } from "./service.ts";
import { validateRequest } from "./validate.ts";

/** @throws UNAUTHENTICATED for a token that is not, or no longer, known */
export type Authenticate = (token: string) => Promise<Principal>;

/** Every method but the open ones needs `Authorization: Bearer <token>`. */
export function authInterceptor(authenticate: Authenticate, open: readonly DescMethod[]): Interceptor {
  const openMethods = new Set(open);
  return {
    async before(call) {
      if (openMethods.has(call.method)) return;
      call.principal = await authenticate(bearerToken(call.authorization));
    },
  };
}

/** The token of an `Authorization` header. @throws UNAUTHENTICATED `TOKEN_MISSING` */
export function bearerToken(authorization: string | undefined): string {
  const token = /^Bearer +([^\s]+) *$/i.exec(authorization ?? "")?.[1];
  if (token !== undefined) return token;
  throw new StatusError(
    "UNAUTHENTICATED",
    "no token was given; send it as `Authorization: Bearer <token>` (the berth CLI takes it from its context)",
    { reason: "TOKEN_MISSING" },
  );
}

/** Checks each request against its rules. */
export const validationInterceptor: Interceptor = {
  request(call, message) {
    validateRequest(call.method, message);
  },
};

export interface CallMetrics {
  observe(labels: { method: string; transport: string; code: string }, seconds: number): void;
}

export function metricsInterceptor(metrics: CallMetrics): Interceptor {
  return {
    after(call, { code, durationMs }) {
      metrics.observe({ method: methodName(call.method), transport: call.transport, code }, durationMs / 1000);
    },
  };
}

/** Failures of ours as errors, refusals at info, the rest at debug. */
export function loggingInterceptor(logger: Logger): Interceptor {
  return {
    after(call, { code, durationMs, error }) {
      const fields = {
        method: methodName(call.method),
        transport: call.transport,
        code,
        durationMs: Math.round(durationMs * 10) / 10,
        requestId: call.requestId,
        ...(call.principal === undefined ? {} : { principal: call.principal.name }),
      };
      if (code === "INTERNAL" || code === "DATA_LOSS") logger.error({ ...fields, err: error }, "call failed");
      else if (code === "OK" || code === "CANCELLED") logger.debug(fields, "call");
      else logger.info({ ...fields, why: StatusError.from(error).message }, "call refused");
    },
  };
}
