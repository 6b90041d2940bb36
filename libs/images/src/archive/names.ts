/** Entry names, from what an archive says to a path beneath its root (A5). */
import { invalidArchive, showName, type ArchiveLimits } from "./entry.ts";

/** A path beneath the root as byte strings: its directory (`""` for the root) and its last component. */
export interface EntryPath {
  readonly directory: string;
  readonly base: string;
}

const MAX_COMPONENT_BYTES = 255;

/**
 * Where an entry goes; undefined for the root itself. A leading `/` means the root of the image, as for containerd and
 * Docker (images made by ko or kaniko have such names); `.` and empty components say nothing; `..` is refused.
 * @throws LAYER_INVALID
 */
export function resolveName(name: string, limits: ArchiveLimits): EntryPath | undefined {
  const path = cleanName(name, limits);
  if (path === "") return undefined;
  const slash = path.lastIndexOf("/");
  return slash < 0 ? { directory: "", base: path } : { directory: path.slice(0, slash), base: path.slice(slash + 1) };
}

function cleanName(name: string, limits: ArchiveLimits): string {
  if (name === "") throw invalidArchive("an entry has no name");
  if (name.length > limits.maxNameBytes) {
    throw invalidArchive(`entry ${showName(name)}: its name is longer than ${limits.maxNameBytes} bytes`);
  }
  if (name.includes("\0")) throw invalidArchive(`entry ${showName(name)}: its name contains a NUL byte`);
  if (isClean(name, limits.maxPathDepth)) return name;
  const components = name.split("/").filter((component) => component !== "" && component !== ".");
  if (components.length > limits.maxPathDepth) {
    throw invalidArchive(`entry ${showName(name)}: it lies deeper than ${limits.maxPathDepth} directories`);
  }
  for (const component of components) {
    if (component === "..") throw invalidArchive(`entry ${showName(name)}: its name leaves the archive by ".."`);
    if (component.length > MAX_COMPONENT_BYTES) {
      throw invalidArchive(`entry ${showName(name)}: a part of its name is longer than ${MAX_COMPONENT_BYTES} bytes`);
    }
  }
  return components.join("/");
}

/** Most names are fine as they stand: no component that is empty, too long, or begins with a dot. */
function isClean(name: string, maxDepth: number): boolean {
  let depth = 0;
  for (let start = 0; ;) {
    const slash = name.indexOf("/", start);
    const end = slash < 0 ? name.length : slash;
    depth += 1;
    if (end === start || end - start > MAX_COMPONENT_BYTES || depth > maxDepth) return false;
    if (name.charCodeAt(start) === 0x2e) return false;
    if (slash < 0) return true;
    start = slash + 1;
  }
}
