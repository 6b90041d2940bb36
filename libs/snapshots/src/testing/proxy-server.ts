/**
 * A process that serves overlayfs snapshotters to others, as a proxy plugin does: one named `remote` per namespace, each
 * with records of its own. Arguments: directory, socket. Says `ready`; ends with its standard input.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { openMetadata } from "@berth/metadata";
import { openOverlayfs } from "../overlayfs/snapshotter.ts";
import { serveSnapshots } from "../proxy/serve.ts";
import { snapshotMigrations } from "../rows.ts";
import type { Snapshotter } from "../snapshotter.ts";

const [directory = "", socket = ""] = process.argv.slice(2);
const opened = new Map<string, Promise<Snapshotter>>();

async function open(namespace: string): Promise<Snapshotter> {
  const own = join(directory, namespace);
  await mkdir(own);
  const metadata = await openMetadata({ path: join(own, "meta.db"), migrations: snapshotMigrations });
  return await openOverlayfs({ metadata }, { root: join(own, "root") });
}

await using _ = await serveSnapshots((namespace, name) => {
  if (name !== "remote") throw new StatusError("NOT_FOUND", `snapshotter ${name}: there is none`);
  let snapshotter = opened.get(namespace);
  if (snapshotter === undefined) opened.set(namespace, (snapshotter = open(namespace)));
  return snapshotter;
}, socket);
process.stdout.write("ready\n");
for await (const _chunk of process.stdin) continue;
process.exit(0);
