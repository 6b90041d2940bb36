/**
 * The address of a server on a unix socket.
 *
 * Invariants: nobody but the owner can connect at any moment (the socket is made in a private folder, gets its mode there and
 * is then renamed to its place); one that a dead server left is replaced, a living one's is not taken.
 */
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, rename, rm, unlink } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { StatusError } from "@berth/base";

/** What the kernel takes (sun_path, with its NUL). */
const MAX_PATH = 107;

/** Binds by `bind`, which is given the path to bind to. @throws UNAVAILABLE `LISTEN_FAILED` */
export async function bindSocket(path: string, bind: (path: string) => Promise<unknown>): Promise<void> {
  const folder = dirname(path);
  try {
    await mkdir(folder, { recursive: true, mode: 0o711 });
    if (await isServed(path)) throw new Error("another process serves it");
    const hidden = await mkdtemp(join(folder, ".s-"));
    try {
      const fresh = join(hidden, "s");
      const longest = Math.max(Buffer.byteLength(fresh), Buffer.byteLength(path));
      if (longest > MAX_PATH)
        throw new Error(`the path is too long: ${longest} bytes, where at most ${MAX_PATH} can be`);
      await bind(fresh);
      await chmod(fresh, 0o600);
      await rename(fresh, path);
    } finally {
      await rm(hidden, { recursive: true, force: true });
    }
  } catch (error) {
    if (error instanceof StatusError) throw error;
    const message = `cannot listen on ${path}: ${(error as Error).message}`;
    throw new StatusError("UNAVAILABLE", message, { reason: "LISTEN_FAILED", cause: error });
  }
}

export async function removeSocket(path: string): Promise<void> {
  await unlink(path).catch(() => {});
}

async function isServed(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
