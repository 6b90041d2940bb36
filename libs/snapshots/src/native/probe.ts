/** Can full copies work here? They need a directory, and coreutils' `cp`. */
import { accessSync, constants, mkdirSync } from "node:fs";
import { StatusError } from "@berth/base";
import { unusable, type Probe } from "../probe.ts";
import { hasProgram } from "../program.ts";

/** Never throws: what fails is the reason. Makes `root` if it is missing. */
export function probe(root: string, searchPath?: string): Probe {
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
    accessSync(root, constants.W_OK);
  } catch (error) {
    return unusable(StatusError.from(error).message);
  }
  return hasProgram("cp", searchPath) ? { usable: true } : unusable("there is no cp (coreutils) in the search path");
}
