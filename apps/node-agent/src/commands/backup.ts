/** `berthd backup FILE`: a consistent copy of the metadata, also while the agent writes it. */
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { formatBytes } from "@berth/base/terminal";
import { backupMetadata, checkMetadata } from "@berth/metadata";
import { StatusError } from "@berth/base";
import { localContext } from "./local.ts";
import type { GlobalOptions } from "./options.ts";
import type { Session } from "./session.ts";

/** @throws ALREADY_EXISTS for a file that is there; DATA_LOSS when what was copied is damaged: the copy then stays, to be looked at */
export async function backup(session: Session, globals: GlobalOptions, file: string): Promise<void> {
  const { config } = await localContext(session, globals);
  const target = resolve(session.cwd, file);
  await backupMetadata(join(config.root, "metadata.db"), target);
  const { damage } = await checkMetadata(target);
  if (damage.length > 0) {
    const text = `the copy ${target} is damaged, and so is the original: ${damage[0]}; run berthd doctor`;
    throw new StatusError("DATA_LOSS", text, { reason: "BACKUP_DAMAGED" });
  }
  const { size } = await stat(target);
  if (session.json) session.out(JSON.stringify({ file: target, sizeBytes: size }, null, 2));
  else session.out(`${target}: ${formatBytes(size)}, checked`);
}
