/**
 * The floor of a pull: the same bytes through the usual tools, one process each; and each step of it alone, which tells
 * where a pull's time can go.
 */
import { execFile } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { StatusError } from "@berth/base";
import { timedMs } from "./report.ts";

export interface Blob {
  readonly url: string;
  /** `igzip -dc`, `zstd -dc`. */
  readonly decompress: string;
}

export interface Stages {
  readonly network: number;
  readonly hash: number;
  readonly inflate: number;
  readonly diffHash: number;
  readonly files: number;
}

const FLOOR = `curl -sSf "$1" | tee "$2/blob" >(sha256sum >"$2/digest") | $3 | tar -x --numeric-owner -C "$2/tree"`;
const NOT_FOUND = 127;

/** Fetches blobs one after the other, keeps, hashes, decompresses and extracts them. Undefined where a tool is missing. */
export async function pipelineMs(blobs: readonly Blob[], dir: string): Promise<number | undefined> {
  mkdirSync(join(dir, "tree"), { recursive: true });
  return await timedMs(async () => {
    for (const { url, decompress } of blobs) await bash(FLOOR, url, dir, decompress);
  }).catch(undefinedIfMissing);
}

/** The steps of {@link pipelineMs}, each alone, from files in memory. */
export async function stagesOf(blobs: readonly Blob[], dir: string): Promise<Stages | undefined> {
  mkdirSync(join(dir, "tree"), { recursive: true });
  const sum = { network: 0, hash: 0, inflate: 0, diffHash: 0, files: 0 };
  try {
    for (const { url, decompress } of blobs) {
      sum.network += await timedMs(() => bash(`curl -sSf "$1" >"$2/blob"`, url, dir));
      sum.hash += await timedMs(() => bash(`sha256sum "$2/blob" >"$2/digest"`, url, dir));
      await bash(`$3 <"$2/blob" >"$2/tar"`, url, dir, decompress);
      sum.inflate += await timedMs(() => bash(`$3 <"$2/blob" >/dev/null`, url, dir, decompress));
      sum.diffHash += await timedMs(() => bash(`sha256sum "$2/tar" >"$2/digest"`, url, dir));
      sum.files += await timedMs(() => bash(`tar -x --numeric-owner -C "$2/tree" -f "$2/tar"`, url, dir));
      rmSync(join(dir, "tar"));
    }
    return sum;
  } catch (error) {
    return undefinedIfMissing(error);
  }
}

async function bash(script: string, ...args: string[]): Promise<void> {
  await promisify(execFile)("bash", ["-c", `set -euo pipefail\n${script}\n`, "pipeline", ...args], {
    timeout: 120_000,
  });
}

function undefinedIfMissing(error: unknown): undefined {
  if ((error as { code?: unknown }).code === NOT_FOUND) return undefined;
  throw new StatusError("INTERNAL", "the bare pipeline failed", { cause: error });
}
