/** Can full copies work here? They need a directory, and coreutils' `cp`. */
import { accessSync, constants, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { StatusError } from "@berth/base";
import type { Probe } from "../probe.ts";

/** Never throws: what fails is the reason. Makes `root` if it is missing. */
export function probe(root: string, searchPath: string = DEFAULT_PATH): Probe {
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
    accessSync(root, constants.W_OK);
  } catch (error) {
    return { usable: false, reason: StatusError.from(error).message };
  }
  const found = searchPath.split(delimiter).some((directory) => executable(join(directory, "cp")));
  return found ? { usable: true } : { usable: false, reason: "there is no cp (coreutils) in the search path" };
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
