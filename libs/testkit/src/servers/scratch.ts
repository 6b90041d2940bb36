/** A directory that goes away with its user. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Scratch extends Disposable {
  readonly dir: string;
}

/** Makes an empty directory beneath the system's temporary one; dispose it after everything that lives in it. */
export function scratchDir(label = "berth"): Scratch {
  const dir = mkdtempSync(join(tmpdir(), `${label}-`));
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}
