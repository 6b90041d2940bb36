/**
 * The ids of snapshots: numbers that are given out once and never again, whatever is removed, restored or cut off.
 *
 * The counter is a file beside the directories, `<root>/next-id`, and not in the metadata: with an older copy of those, an
 * older counter would come back, and a row of yet another copy could then name what another tenant has made since.
 * Numbers are set aside by the block, before the first of them is used, so that the file is seldom written; what is left of
 * a block when the process ends is never used.
 */
import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { fromNodeError } from "@berth/linux";

const BLOCK = 64;

export class SnapshotIds {
  readonly #root: string;
  #next = 1;
  /** The first one that is not set aside. */
  #end = 1;
  #extending: Promise<void> | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * @param seen ids that are certainly used; they matter where the file is not there yet or was lost
   * @throws DATA_LOSS `SNAPSHOT_IDS_INVALID`
   */
  async load(seen: Iterable<string>): Promise<void> {
    this.#next = await this.#read();
    for (const id of seen) this.#next = Math.max(this.#next, Number(id) + 1 || 1);
    this.#end = this.#next;
  }

  async take(): Promise<string> {
    while (this.#next >= this.#end) {
      this.#extending ??= this.#extend().finally(() => (this.#extending = undefined));
      await this.#extending;
    }
    const id = String(this.#next);
    this.#next += 1;
    return id;
  }

  async #read(): Promise<number> {
    const path = this.#path();
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return 1;
      throw fromNodeError(error, "read", JSON.stringify(path));
    }
    if (/^[1-9]\d{0,14}\n$/.test(text)) return Number(text);
    throw new StatusError(
      "DATA_LOSS",
      `snapshots "${this.#root}": next-id holds no number; write one into it that is above all ids in snapshots/ and in any backup`,
      { reason: "SNAPSHOT_IDS_INVALID" },
    );
  }

  /** On disk, by replacing the file, before any of the new numbers is used. */
  async #extend(): Promise<void> {
    const end = this.#end + BLOCK;
    const path = this.#path();
    try {
      await using file = await open(`${path}.new`, "w", 0o600);
      await file.writeFile(`${end}\n`);
      await file.sync();
      await rename(`${path}.new`, path);
      await using folder = await open(this.#root, "r");
      await folder.sync();
    } catch (error) {
      throw fromNodeError(error, "write", JSON.stringify(path));
    }
    this.#end = end;
  }

  #path(): string {
    return join(this.#root, "next-id");
  }
}
