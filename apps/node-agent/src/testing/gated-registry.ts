/** A registry whose blobs stop half-way until the test lets them go on: for looking at a pull while it goes on. */
import { once } from "node:events";
import { createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Readable } from "node:stream";

export interface GatedRegistry extends AsyncDisposable {
  /** `host:port`, in front of the real one. */
  readonly address: string;
  /** Transfers of blobs that stand at the gate. */
  readonly waiting: number;
  /** Transfers whose client went away at the gate. */
  readonly left: number;
  close(): void;
  open(): void;
}

/** The gate is open at first. Blobs below `minBytes` pass it always. */
export async function startGatedRegistry(api: string, minBytes: number): Promise<GatedRegistry> {
  const upstream = new URL(api);
  const state = { waiting: 0, left: 0 };
  let gate = Promise.withResolvers<void>();
  gate.resolve();

  const passOn = async (from: IncomingMessage, to: ServerResponse, isBlob: boolean): Promise<void> => {
    to.writeHead(from.statusCode ?? 502, from.headers);
    const size = Number(from.headers["content-length"] ?? 0);
    const gated = isBlob && size >= minBytes;
    let sent = 0;
    for await (const chunk of from as Readable as AsyncIterable<Buffer>) {
      if (gated && sent >= size / 2) await atGate(to);
      if (to.destroyed) return;
      sent += chunk.length;
      if (!to.write(chunk)) await Promise.race([once(to, "drain"), once(to, "close")]);
    }
    to.end();
  };
  const atGate = async (to: ServerResponse): Promise<void> => {
    state.waiting += 1;
    const gone = once(to, "close");
    await Promise.race([gate.promise, gone]);
    state.waiting -= 1;
    if (to.destroyed) state.left += 1;
  };

  const server = createServer((incoming, response) => {
    const { url, method, headers } = incoming;
    const forwarded = request(new URL(url ?? "/", upstream), { method, headers: { ...headers, host: upstream.host } });
    forwarded.on("response", (answer) => {
      const isBlob = method === "GET" && (url ?? "").includes("/blobs/");
      passOn(answer, response, isBlob).catch(() => response.destroy());
    });
    forwarded.on("error", () => response.destroy());
    incoming.pipe(forwarded);
  });
  server.listen(0, upstream.hostname);
  await once(server, "listening");
  return {
    address: `${upstream.hostname}:${(server.address() as AddressInfo).port}`,
    get waiting() {
      return state.waiting;
    },
    get left() {
      return state.left;
    },
    close: () => void (gate = Promise.withResolvers()),
    open: () => gate.resolve(),
    async [Symbol.asyncDispose]() {
      gate.resolve();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
