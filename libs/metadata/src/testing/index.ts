/** For tests of the libraries that keep rows: the real thing in a folder of its own, which goes with it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openMetadata, type Migration, type OpenedMetadata } from "../index.ts";

export interface TemporaryMetadata extends OpenedMetadata {
  /** The folder that holds the file; removed at dispose. */
  readonly folder: string;
}

export async function temporaryMetadata(migrations: readonly Migration[]): Promise<TemporaryMetadata> {
  const folder = await mkdtemp(join(tmpdir(), "berth-metadata-"));
  const metadata = await openMetadata({ path: join(folder, "metadata.db"), migrations });
  return {
    folder,
    transact: (statements) => metadata.transact(statements),
    all: (sql, ...params) => metadata.all(sql, ...params),
    get: (sql, ...params) => metadata.get(sql, ...params),
    backup: (path) => metadata.backup(path),
    counters: () => metadata.counters(),
    async [Symbol.asyncDispose]() {
      await metadata[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export { noTinyDisk, tinyDisk, type TinyDisk } from "./tiny-disk.ts";
