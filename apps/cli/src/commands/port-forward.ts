/**
 * `berth port-forward`: local ports whose connections end in a task, each on its own stream. It goes on until it is interrupted;
 * what goes wrong with one connection ends that one.
 */
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { abortReason, aborted, StatusError } from "@berth/base";
import { TaskService, type PortForwardRequestSchema } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import type { Session } from "../session.ts";
import { runningTask } from "./tasks-named.ts";

export interface PortForwardOptions {
  readonly address: string;
}

interface Mapping {
  /** 0: any free one. */
  readonly local: number;
  readonly remote: number;
}

export async function portForward(
  session: Session,
  target: string,
  ports: readonly string[],
  options: PortForwardOptions,
): Promise<void> {
  const mappings = ports.map(parseMapping);
  const namespace = session.namespace();
  const name = await runningTask(session, namespace, target);
  const sockets = new Set<Socket>();
  const servers = await Promise.all(
    mappings.map(async (mapping) => {
      const carry = (socket: Socket): void => {
        sockets.add(socket);
        socket.once("close", () => sockets.delete(socket));
        void carryConnection(session, { namespace, name, port: mapping.remote }, socket);
      };
      const server = await listen(mapping.local, options.address, carry);
      const { address, port } = server.address() as AddressInfo;
      session.out(`${address.includes(":") ? `[${address}]` : address}:${port} -> ${name}:${mapping.remote}`);
      return server;
    }),
  );
  await aborted(session.signal);
  for (const server of servers) server.close();
  for (const socket of sockets) socket.destroy();
  throw abortReason(session.signal);
}

function parseMapping(text: string): Mapping {
  const match = /^(?:(\d{0,5}):)?(\d{1,5})$/.exec(text);
  const remote = Number(match?.[2] ?? 0);
  const local = match?.[1] === undefined ? remote : Number(match[1]);
  if (match !== null && remote >= 1 && remote <= 65_535 && local <= 65_535) return { local, remote };
  throw new UsageError(`port ${JSON.stringify(text)} is not [LOCAL:]PORT; :80 or 0:80 takes any free local port`);
}

async function listen(port: number, host: string, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, onConnection);
  server.listen({ port, host });
  try {
    await once(server, "listening");
    return server;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "EADDRINUSE" ? "it is in use; name another as LOCAL:PORT" : message;
    throw new StatusError("FAILED_PRECONDITION", `cannot listen on ${host}:${port}: ${why}`, { cause: error });
  }
}

type Place = { readonly namespace: string; readonly name: string; readonly port: number };
type Request = MessageInitShape<typeof PortForwardRequestSchema>;

/** Both halves until both are closed. A broken stream resets the connection, so that nobody takes it for an end. */
async function carryConnection(session: Session, place: Place, socket: Socket): Promise<void> {
  const gone = new AbortController();
  // Its error is what the loop below throws; a reset by this side's client cancels the call.
  socket.on("error", () => gone.abort());
  const signal = AbortSignal.any([session.signal, gone.signal]);
  try {
    for await (const { message } of session.client(TaskService).portForward(requestsOf(place, socket), { signal })) {
      if (message.case === "data") {
        if (!socket.write(message.value)) await once(socket, "drain", { signal });
      } else if (message.case === "closed") socket.end();
    }
    socket.destroySoon();
  } catch (error) {
    socket.resetAndDestroy();
    if (!signal.aborted) session.note(`${place.name}:${place.port}: ${StatusError.from(error).message}`);
  }
}

async function* requestsOf(place: Place, socket: Socket): AsyncGenerator<Request> {
  yield { message: { case: "open", value: place } };
  for await (const data of socket.iterator({ destroyOnReturn: false })) {
    yield { message: { case: "data", value: data as Buffer } };
  }
  yield { message: { case: "closed", value: true } };
}
