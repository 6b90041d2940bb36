/** Device nodes of the host given to a container, and the cgroup rules that let it open them. */
import { readdir, stat } from "node:fs/promises";
import { StatusError } from "@berth/base";
import type { ContainerConfig, ContainerDevice } from "./container-config.ts";
import type { OciDevice, OciDeviceRule } from "./oci-spec.ts";

export interface Devices {
  readonly nodes: readonly OciDevice[];
  readonly rules: readonly OciDeviceRule[];
}

/** Everything is denied but what the runtime allows to every container (null, zero, tty…) and what was asked for. */
export async function containerDevices(container: ContainerConfig): Promise<Devices> {
  if (container.privileged === true) {
    return { nodes: await hostDevices("/dev"), rules: [{ allow: true, access: "rwm" }] };
  }
  const nodes: OciDevice[] = [];
  const rules: OciDeviceRule[] = [{ allow: false, access: "rwm" }];
  for (const [index, wanted] of (container.devices ?? []).entries()) {
    const node = await namedDevice(wanted, `spec.devices[${index}].hostPath`);
    const { type, major, minor } = node;
    nodes.push(node);
    rules.push({ allow: true, type, major, minor, access: wanted.permissions ?? "rwm" });
  }
  return { nodes, rules };
}

async function namedDevice(wanted: ContainerDevice, field: string): Promise<OciDevice> {
  const node = await deviceAt(wanted.hostPath).catch((error: unknown) => {
    throw StatusError.from(error, field);
  });
  if (node === undefined) {
    throw StatusError.invalid([{ field, description: `${wanted.hostPath} is not a device` }]);
  }
  return { ...node, path: wanted.containerPath ?? wanted.hostPath };
}

const NOT_GIVEN = new Set(["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"]);

/** All devices below a directory, but for what a container has of its own. */
async function hostDevices(directory: string): Promise<readonly OciDevice[]> {
  const found: OciDevice[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = `${directory}/${entry.name}`;
    if (NOT_GIVEN.has(entry.name)) continue;
    if (entry.isDirectory()) found.push(...(await hostDevices(path)));
    if (!entry.isCharacterDevice() && !entry.isBlockDevice()) continue;
    const node = await deviceAt(path).catch(() => undefined);
    if (node !== undefined) found.push(node);
  }
  return found;
}

async function deviceAt(path: string): Promise<OciDevice | undefined> {
  const info = await stat(path);
  if (!info.isCharacterDevice() && !info.isBlockDevice()) return undefined;
  return {
    path,
    type: info.isBlockDevice() ? "b" : "c",
    major: ((info.rdev >>> 8) & 0xfff) >>> 0,
    minor: ((info.rdev & 0xff) | ((info.rdev >>> 12) & 0xfff00)) >>> 0,
    fileMode: info.mode & 0o777,
    uid: info.uid,
    gid: info.gid,
  };
}
