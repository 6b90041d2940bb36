/** An address that moves: whoever connects to one port reaches the server behind another. */
import { connect, createServer, type Socket } from "node:net";
import { once } from "node:events";

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Listens where a server was, which must have ended, for one that took its place. */
export async function forwardPort(at: Address, to: Address): Promise<AsyncDisposable> {
  const open = new Set<Socket>();
  const kept = (socket: Socket): Socket => {
    open.add(socket);
    return socket.on("close", () => open.delete(socket)).on("error", () => socket.destroy());
  };
  const server = createServer((client) => {
    const behind = kept(connect({ host: to.host, port: to.port }));
    kept(client).pipe(behind).pipe(client);
    client.on("close", () => behind.destroy());
    behind.on("close", () => client.destroy());
  });
  server.listen({ host: at.host, port: at.port });
  await once(server, "listening");
  return {
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of open) socket.destroy();
      await once(server, "close");
    },
  };
}
