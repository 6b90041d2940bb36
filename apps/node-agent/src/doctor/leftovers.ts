/** What a crash may have left on the host: mounts and network namespaces that no container owns. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { listNetns, mountsUnder } from "@berth/linux";
import { readMetadata } from "@berth/metadata";
import type { Check, CheckContext, Finding } from "./finding.ts";

const MAX_NAMED = 5;
const REMEDY = "start the agent, which removes what no container owns; umount -l what stays";

/** With an agent running, mounts of extractions come and go; without one, only containers' may be there. */
export const mountsCheck: Check = async (context) => {
  const { config, running } = context;
  const owned = await containerIds(context);
  const strays = mountsUnder(config.state)
    .map(({ target }) => target)
    .filter((target) => target !== config.state && !target.startsWith(join(config.state, "network")))
    .filter((target) => !owned.some(({ namespace, id }) => target.includes(`/${namespace}/${id}/`)))
    .filter((target) => running === undefined || !target.startsWith(join(config.state, "images")));
  return [finding("leftovers/mounts", "mounts", strays)];
};

/** The network keeps them as `netns/<namespace>/<id>`. */
export const namespacesCheck: Check = async (context) => {
  const directory = join(context.config.state, "network", "netns");
  const owned = new Set((await containerIds(context)).map(({ namespace, id }) => join(directory, namespace, id)));
  const tenants = existsSync(directory) ? readdirSync(directory) : [];
  const strays = tenants.flatMap((name) => listNetns(join(directory, name))).filter(({ path }) => !owned.has(path));
  const gone = strays.filter(({ mounted }) => !mounted).length;
  const paths = strays.map(({ path }) => path);
  const found = finding("leftovers/netns", "network namespaces", paths);
  return [gone === 0 ? found : { ...found, detail: `${found.detail} (${gone} of them empty since a reboot)` }];
};

async function containerIds({ metadataPath }: CheckContext): Promise<readonly { namespace: string; id: string }[]> {
  if (!existsSync(metadataPath)) return [];
  using metadata = await readMetadata(metadataPath);
  return metadata
    .all("SELECT namespace, id FROM containers")
    .map((row) => ({ namespace: String(row["namespace"]), id: String(row["id"]) }));
}

function finding(check: string, what: string, strays: readonly string[]): Finding {
  if (strays.length === 0) return { check, status: "ok", detail: "none" };
  const named = strays.slice(0, MAX_NAMED).join(", ");
  const detail = `${strays.length} ${what} belong to no container: ${named}`;
  return { check, status: "warn", detail, remedy: REMEDY };
}
