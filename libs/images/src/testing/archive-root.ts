/** A root for archives to be written to, in each test a new one; beside it lies what an archive must not reach, looked at afterwards. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "node:test";
import { StatusError } from "@berth/base";
import { applyArchive } from "./apply-archive.ts";
import { buildTar, type TarInput } from "./tar.ts";

export interface ArchiveRoot {
  readonly folder: string;
  readonly root: string;
  /** Gives the warnings. */
  readonly apply: (entries: readonly TarInput[], overLower?: boolean) => string[];
  readonly applyWith: (entries: readonly TarInput[], options?: Parameters<typeof applyArchive>[2]) => string[];
  /** What an archive that is refused is told. */
  readonly refusal: (entries: readonly TarInput[]) => string;
  readonly at: (path: string) => string;
  readonly text: (path: string) => string;
}

/** Registers hooks: call it once, at the top of a test file. */
export function useArchiveRoot(): ArchiveRoot {
  let folder = "";
  const lab: ArchiveRoot = {
    get folder() {
      return folder;
    },
    get root() {
      return join(folder, "root");
    },
    apply: (entries, overLower = false) => lab.applyWith(entries, { mode: overLower ? "merged" : "base" }),
    applyWith: (entries, options) => applyArchive(lab.root, buildTar(entries), options),
    refusal: (entries) => refusalOf(() => lab.apply(entries)),
    at: (path) => join(lab.root, path),
    text: (path) => readFileSync(lab.at(path), "utf8"),
  };
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "berth-apply-"));
    mkdirSync(lab.root);
    mkdirSync(join(folder, "outside"));
    writeFileSync(join(folder, "outside/file"), "untouched");
  });
  afterEach(() => {
    assert.deepEqual(readdirSync(folder).sort(), ["outside", "root"]);
    assert.deepEqual(readdirSync(join(folder, "outside")), ["file"]);
    assert.equal(readFileSync(join(folder, "outside/file"), "utf8"), "untouched");
    rmSync(folder, { recursive: true });
  });
  return lab;
}

function refusalOf(apply: () => unknown): string {
  try {
    apply();
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(error.reason, "LAYER_INVALID");
    return error.message;
  }
  throw new Error("was applied");
}
