/** Small things that tests of failures share. */
import assert from "node:assert/strict";
import { StatusError } from "@berth/base";

/** The StatusError that a promise rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<StatusError> {
  const error: unknown = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(error instanceof StatusError, `expected a StatusError, got ${String(error)}`);
  return error;
}
