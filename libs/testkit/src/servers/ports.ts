/** Free ports, and one exchange of bytes with whoever listens on one. */
import { randomInt } from "node:crypto";
import { connect, createServer } from "node:net";
import { StatusError } from "@berth/base";

/**
 * A port that nobody listens on. Taken from below the kernel's ephemeral range (32768 and up), so that no outgoing
 * connection sits on it when a server is started again.
 */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = randomInt(20_000, 32_000);
    if (await canListen(host, port)) return port;
  }
  throw new StatusError("RESOURCE_EXHAUSTED", `no free port on ${host}`);
}

function canListen(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Connects, sends, and resolves with what came back as soon as it contains `expected`. Rejects otherwise. */
export function exchange(host: string, port: number, send: string, expected: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let received = "";
    const fail = (why: string): void => {
      socket.destroy();
      reject(new StatusError("UNAVAILABLE", `${host}:${port}: ${why}`));
    };
    socket.setTimeout(2_000, () => fail("no answer within 2000 ms"));
    socket.setEncoding("utf8");
    socket.once("error", (error) => fail(error.message));
    socket.once("connect", () => socket.write(send));
    socket.once("close", () => fail(`connection closed after ${JSON.stringify(received.slice(0, 200))}`));
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (!received.includes(expected)) return;
      socket.destroy();
      resolve(received);
    });
  });
}
