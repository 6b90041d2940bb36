/**
 * The folder in which versions of Berth lie beside each other, and the files by which the agent, `berthd upgrade` and
 * `bin/berthd-start` speak of an upgrade: that script has their story. Lines of `name=value`, for a shell reads them.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { StatusError } from "@berth/base";

export interface UpgradeOrder {
  readonly id: string;
  readonly to: string;
  readonly from: string;
  /** So long may the new version take to prove itself, from its first start on. */
  readonly seconds: number;
  /** Runtimes that it has to find usable: those that the old one had. */
  readonly handlers: readonly string[];
}

export interface UpgradeResult {
  readonly id: string;
  readonly to: string;
  readonly from: string;
  readonly outcome: "confirmed" | "rolled-back";
  readonly reason: string;
}

const VERSION_NAME = /^[0-9A-Za-z][0-9A-Za-z._+-]{0,79}$/;

export class VersionsFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * @param release the root of the version that runs, as its launcher has it
   * @returns undefined for a clone, and for a version that was only unpacked somewhere
   */
  static of(release: string | undefined): VersionsFolder | undefined {
    const versions = release === undefined ? "" : dirname(release);
    return basename(versions) === "versions" ? new VersionsFolder(dirname(versions)) : undefined;
  }

  current(): string {
    return basename(readlinkSync(join(this.path, "current")));
  }

  /** @throws INVALID_ARGUMENT `VERSION_NAME` */
  tree(version: string): string {
    if (VERSION_NAME.test(version)) return join(this.path, "versions", version);
    throw new StatusError("INVALID_ARGUMENT", `${JSON.stringify(version)} is no version`, { reason: "VERSION_NAME" });
  }

  order(): UpgradeOrder | undefined {
    const { id, to, from, seconds, handlers = "" } = this.#read("order");
    if (id === undefined || to === undefined || from === undefined) return undefined;
    return { id, to, from, seconds: Number(seconds), handlers: handlers.split(",").filter(Boolean) };
  }

  /** From now on the next start of the agent is one of the new version. */
  place({ id, to, from, seconds, handlers }: UpgradeOrder): void {
    mkdirSync(join(this.path, "upgrade"), { recursive: true, mode: 0o755 });
    rmSync(this.#file("tries"), { force: true });
    this.#write("order", { id, to, from, seconds: String(seconds), handlers: handlers.join(",") });
  }

  /** The new version has proven itself: nothing goes back any more. */
  confirm({ id, to, from }: UpgradeOrder): void {
    this.#write("result", { id, to, from, outcome: "confirmed", reason: "" });
    rmSync(this.#file("tries"), { force: true });
    rmSync(this.#file("order"), { force: true });
  }

  result(): UpgradeResult | undefined {
    const { id, to, from, outcome, reason = "" } = this.#read("result");
    if (id === undefined || to === undefined || from === undefined) return undefined;
    return outcome === "confirmed" || outcome === "rolled-back" ? { id, to, from, outcome, reason } : undefined;
  }

  /** Has the journal been told of this result? */
  isTold(id: string): boolean {
    return this.#read("told")["id"] === id;
  }

  told(id: string): void {
    this.#write("told", { id });
  }

  /** Versions that have run here, or were tried, oldest first; the one that runs may be among them. */
  past(): readonly string[] {
    return (this.#read("past")["versions"] ?? "").split(" ").filter((version) => VERSION_NAME.test(version));
  }

  /** It ran here, or was tried. */
  pass(version: string): void {
    this.keepPast([...this.past().filter((each) => each !== version), version]);
  }

  keepPast(versions: readonly string[]): void {
    this.#write("past", { versions: versions.join(" ") });
  }

  #file(name: string): string {
    return join(this.path, "upgrade", name);
  }

  #read(name: string): Readonly<Partial<Record<string, string>>> {
    try {
      const lines = readFileSync(this.#file(name), "utf8").split("\n");
      return Object.fromEntries(
        lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
      );
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
      throw StatusError.from(error, this.#file(name));
    }
  }

  /** Whole, or as it was; on disk when it returns. */
  #write(name: string, values: Readonly<Record<string, string>>): void {
    const file = this.#file(name);
    const text = Object.entries(values).map(([key, value]) => `${key}=${value.replaceAll("\n", " ")}\n`);
    const opened = openSync(`${file}.new`, "w", 0o644);
    try {
      writeSync(opened, text.join(""));
      fsyncSync(opened);
    } finally {
      closeSync(opened);
    }
    renameSync(`${file}.new`, file);
    const folder = openSync(dirname(file), "r");
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }
}
