/** A client before a hostile server, and what it says. */
import assert from "node:assert/strict";
import { StatusError } from "@berth/base";
import { parseImageReference, type ImageReference } from "@berth/model";
import {
  createRegistryClient,
  type BlobStream,
  type RegistryClient,
  type RegistryClientConfig,
  type RegistryHost,
} from "../index.ts";
import { startHostileServer, type Behaviour, type HostileServer } from "./hostile-server.ts";

export interface HostileClient extends AsyncDisposable {
  readonly server: HostileServer;
  readonly client: RegistryClient;
  /** `team/app:v1` of the server. */
  readonly ref: ImageReference;
}

/** Few tries, short waits. */
export const FAST: RegistryClientConfig = { backoffInitialMs: 1, backoffMaxMs: 5, maxAttempts: 3 };

export async function startHostileClient(
  behaviour: Behaviour,
  host: Omit<RegistryHost, "host"> = {},
  config = FAST,
): Promise<HostileClient> {
  const server = await startHostileServer(behaviour);
  const client = createRegistryClient({ hosts: [{ host: server.host, plainHttp: true, ...host }] }, config);
  return {
    server,
    client,
    ref: parseImageReference(`${server.host}/team/app:v1`),
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** The error that work ends with, which must be a StatusError. */
export async function failureOf(work: Promise<unknown>): Promise<StatusError> {
  const error: unknown = await work.then(
    () => undefined,
    (raw: unknown) => raw,
  );
  assert.ok(error instanceof StatusError, `expected a StatusError, got ${String(error)}`);
  return error;
}

/** All that a stream brings. */
export async function bytesOf(stream: BlobStream): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}
