/** Does a snapshotter answer on that socket? Asked for a snapshot that there is none of. */
import { existsSync } from "node:fs";
import { hasCode, StatusError } from "@berth/base";
import { Snapshots } from "@berth/proto/containerd";
import { unusable, type Probe } from "../probe.ts";
import { PROXY_NAMESPACE, type ProxyConfig } from "./snapshotter.ts";
import { connectTo, socketPath } from "./transport.ts";

const ANSWER_MS = 3_000;

/** Never throws: what fails is the reason. */
export async function probe({ name, address, snapshotter = name, namespace }: ProxyConfig): Promise<Probe> {
  if (!existsSync(socketPath(address))) return unusable(`there is no socket at ${socketPath(address)}`);
  try {
    using connection = await connectTo(address, namespace ?? PROXY_NAMESPACE);
    await connection.call(Snapshots.method.stat, { snapshotter, key: "berth-probe" }, ANSWER_MS);
    return { usable: true };
  } catch (error) {
    return hasCode(error, "NOT_FOUND") ? { usable: true } : unusable(StatusError.from(error).message);
  }
}
