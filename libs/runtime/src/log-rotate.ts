/** Rotating a container's log: `PATH` becomes `PATH.1`, `PATH.1` becomes `PATH.2`, and the writer opens `PATH` anew. */
import { access, rename, rm } from "node:fs/promises";
import { StatusError, systemClock, type Clock } from "@berth/base";

export interface RotateLogOptions {
  /** How many rotated files stay; at least 1, as followers read the newest one to its end. */
  readonly keep: number;
  /** Makes the writer close the file and open `path` again: `runtime.reopenLog`. */
  readonly reopen: () => Promise<void>;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
}

const REOPEN_MS = 5000;

/** `PATH` for 0, `PATH.1` for the last rotated one, and so on. */
export function numbered(path: string, number: number): string {
  return number === 0 ? path : `${path}.${number}`;
}

/**
 * Resolves when the writer has the new file. If it fails to (its supervisor is gone), the old file keeps its new name: no
 * line is lost, and readers find it there.
 * @throws DEADLINE_EXCEEDED `LOG_NOT_REOPENED`; what `reopen` throws.
 */
export async function rotateLog(path: string, options: RotateLogOptions): Promise<void> {
  const { clock = systemClock, keep, reopen, signal } = options;
  if (!Number.isSafeInteger(keep) || keep < 1) {
    throw StatusError.invalid([{ field: "keep", description: "must be a whole number of at least 1" }]);
  }
  await rm(numbered(path, keep), { force: true });
  for (let number = keep - 1; number >= 0; number -= 1) await renameIfThere(path, number);
  await reopen();
  const deadline = clock.monotonicMs() + REOPEN_MS;
  while (!(await exists(path))) {
    if (clock.monotonicMs() >= deadline) {
      throw new StatusError("DEADLINE_EXCEEDED", `log ${path} was not opened anew within ${REOPEN_MS} ms`, {
        reason: "LOG_NOT_REOPENED",
      });
    }
    await clock.sleep(2, signal);
  }
}

async function renameIfThere(path: string, number: number): Promise<void> {
  await rename(numbered(path, number), numbered(path, number + 1)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
