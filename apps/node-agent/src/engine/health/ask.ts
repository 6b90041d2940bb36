/**
 * One question to one container: a command in it, or a connection from inside its network. An answer always comes within the
 * timeout, whatever the container does: what it says is bounded, and only its beginning is looked at.
 */
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { anySignal, StatusError, throwIfAborted, withSignal } from "@berth/base";
import { connectInNetns } from "@berth/linux";
import type { Network } from "@berth/network";
import type { ContainerHandle, ExecProcess, Runtime } from "@berth/runtime";
import type { ProbeCheck } from "./probe-plan.ts";
import type { Answer } from "./watch.ts";

export interface AskDeps {
  readonly network: Pick<Network, "get">;
  readonly runtime: Runtime;
  readonly container: ContainerHandle;
}

const OUTPUT_CHARACTERS = 200;
const LOOPBACK = "127.0.0.1";

export async function askProbe(
  deps: AskDeps,
  check: ProbeCheck,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Answer> {
  const late = AbortSignal.timeout(timeoutMs);
  try {
    return await askNow(deps, check, anySignal(signal, late));
  } catch (error) {
    throwIfAborted(signal);
    if (late.aborted) return { success: false, why: `no answer within ${timeoutMs / 1_000} s` };
    return { success: false, why: StatusError.from(error).message };
  }
}

async function askNow(deps: AskDeps, check: ProbeCheck, signal: AbortSignal): Promise<Answer> {
  switch (check.kind) {
    case "exec":
      return await askExec(deps, check.command, signal);
    case "tcp":
      return await askTcp(await socketTo(deps, check.port), signal);
    case "http":
      return await askHttp(await socketTo(deps, check.port), check, signal);
  }
}

/** A container with the host's network has no namespace of its own. */
async function socketTo({ network, container }: AskDeps, port: number): Promise<Socket> {
  const attachment = await network.get(container.namespace, container.id);
  const address = { host: LOOPBACK, port };
  return attachment?.netnsPath === undefined ? connect(address) : connectInNetns(attachment.netnsPath, address);
}

async function askTcp(socket: Socket, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  socket.once("connect", () => resolve({ success: true }));
  socket.on("error", reject);
  try {
    return await withSignal(promise, signal);
  } finally {
    socket.destroy();
  }
}

async function askHttp(
  socket: Socket,
  { port, path }: { readonly port: number; readonly path: string },
  signal: AbortSignal,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const headers = { host: `${LOOPBACK}:${port}`, "user-agent": "berth-probe/1", connection: "close" };
  const asking = request({ method: "GET", path, headers, createConnection: () => socket }, (response) => {
    resolve(response.statusCode ?? 0);
    response.destroy();
  });
  asking.on("error", reject);
  socket.on("error", reject);
  asking.end();
  try {
    const status = await withSignal(promise, signal);
    return status >= 200 && status < 400 ? { success: true } : { success: false, why: `HTTP status ${status}` };
  } finally {
    asking.destroy();
    socket.destroy();
  }
}

async function askExec(
  { runtime, container }: AskDeps,
  command: readonly string[],
  signal: AbortSignal,
): Promise<Answer> {
  await using process = await withSignal(runtime.exec(container, { args: command, terminal: false }), signal);
  const said = gather(process);
  const exitCode = await withSignal(process.exitCode, signal);
  if (exitCode === 0) return { success: true };
  const text = said().trim().replaceAll(/\s+/g, " ");
  return { success: false, why: `exit code ${exitCode}${text === "" ? "" : `: ${text}`}` };
}

/** The beginning of what it says; the rest is read and dropped, so that it never waits for a reader. */
function gather(process: ExecProcess): () => string {
  let text = "";
  for (const stream of [process.stdout, process.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      if (text.length < OUTPUT_CHARACTERS) text = (text + chunk).slice(0, OUTPUT_CHARACTERS);
    });
    stream.on("error", () => {});
  }
  process.stdin.end();
  return () => text;
}
