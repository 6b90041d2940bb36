/** Can ZFS snapshots work here? Needs a data set mounted at `root`, and `zfs`; answered by making one in it. */
import { mkdirSync } from "node:fs";
import { StatusError } from "@berth/base";
import { unusable, type Probe } from "../probe.ts";
import { hasProgram } from "../program.ts";
import { datasetAt, zfs } from "./datasets.ts";

/** Never throws: what fails is the reason. Runs nothing unless a data set is there. Makes `root` if it is missing. */
export async function probe(root: string): Promise<Probe> {
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
    const found = datasetAt(root);
    if (found === undefined) {
      const hint = `zfs create -o mountpoint=${root} POOL/berth`;
      return unusable(`no zfs data set is mounted at ${JSON.stringify(root)} (make one: ${hint})`);
    }
    if (!hasProgram("zfs")) return unusable("there is no zfs program in the search path");
    const name = `${found.dataset}/probe-${process.pid}-${Date.now().toString(36)}`;
    await zfs("create", "-o", "mountpoint=none", name);
    try {
      await zfs("snapshot", `${name}@snapshot`);
    } finally {
      await zfs("destroy", "-r", name);
    }
    return { usable: true };
  } catch (error) {
    return unusable(StatusError.from(error).message);
  }
}
