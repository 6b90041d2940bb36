/** Which log files a task keeps, and which one a reader means. Names are `<generation>-<attempt>.log` and rotated `.log.N`. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { StatusError, type Clock } from "@berth/base";
import { compareKeys, type ExecutionKey } from "./execution.ts";

interface LogFile {
  readonly name: string;
  readonly key: ExecutionKey;
}

/** Removes the logs of all executions but the one given and the last one before it. */
export async function keepLatestLogs(directory: string, current: ExecutionKey): Promise<void> {
  const files = await logFiles(directory, current.taskUid);
  const before = files.filter(({ key }) => compareKeys(key, current) < 0);
  const last = before[0];
  for (const { name, key } of before) {
    if (last === undefined || compareKeys(key, last.key) !== 0) await rm(join(directory, name), { force: true });
  }
}

/** The log of the newest execution that has written one, or of the one before it. @throws NOT_FOUND `LOG_MISSING`. */
export async function findLog(directory: string, taskUid: string, previous: boolean): Promise<string> {
  const files = (await logFiles(directory, taskUid)).filter(({ name }) => name.endsWith(".log"));
  const found = files[previous ? 1 : 0];
  if (found !== undefined) return join(directory, found.name);
  const which = previous ? "execution before this one" : "execution";
  throw new StatusError(
    "NOT_FOUND",
    `task ${taskUid} has no log of ${which === "execution" ? "any" : "the"} ${which}`,
    {
      reason: "LOG_MISSING",
    },
  );
}

/** The newest first. */
async function logFiles(directory: string, taskUid: string): Promise<readonly LogFile[]> {
  const names = await readdir(directory).catch(() => []);
  return names
    .flatMap((name): LogFile[] => {
      const match = /^(\d+)-(\d+)\.log(\.\d+)?$/.exec(name);
      if (match === null) return [];
      return [{ name, key: { taskUid, generation: Number(match[1]), attempt: Number(match[2]) } }];
    })
    .sort((a, b) => compareKeys(b.key, a.key));
}

/** Who reads a task's logs just now: a removal lets them come to the end first. */
export class LogReaders {
  readonly #held = new Map<string, { count: number; readonly released: PromiseWithResolvers<void> }>();

  hold(taskUid: string): Disposable {
    const held = this.#held.get(taskUid) ?? { count: 0, released: Promise.withResolvers<void>() };
    this.#held.set(taskUid, held);
    held.count += 1;
    let open = true;
    return {
      [Symbol.dispose]: () => {
        if (!open) return;
        open = false;
        held.count -= 1;
        if (held.count > 0) return;
        this.#held.delete(taskUid);
        held.released.resolve();
      },
    };
  }

  /** Resolves when nobody reads, or when a reader has had `graceMs` (one that stalls must not keep the files). */
  async done(taskUid: string, graceMs: number, clock: Clock): Promise<void> {
    const held = this.#held.get(taskUid);
    if (held === undefined) return;
    const enough = new AbortController();
    const late = clock.sleep(graceMs, enough.signal).catch(() => {});
    await Promise.race([held.released.promise, late]);
    enough.abort();
  }
}
