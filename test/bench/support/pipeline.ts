/** The floor of a pull: the same bytes through the usual tools, one process each. */
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { StatusError } from "@berth/base";
import { timedMs } from "./report.ts";

const SCRIPT = `set -euo pipefail
curl -sSf "$1" | tee "$2/blob" >(sha256sum >"$2/digest") | igzip -dc | tar -x --numeric-owner -C "$2/tree"
`;

const NOT_FOUND = 127;

/** Fetches a blob, keeps it, hashes it, decompresses and extracts it beneath `dir`. Undefined where a tool is missing. */
export async function pipelineMs(url: string, dir: string): Promise<number | undefined> {
  mkdirSync(join(dir, "tree"), { recursive: true });
  try {
    return await timedMs(() => promisify(execFile)("bash", ["-c", SCRIPT, "pipeline", url, dir], { timeout: 120_000 }));
  } catch (error) {
    if ((error as { code?: unknown }).code === NOT_FOUND) return undefined;
    throw new StatusError("INTERNAL", `the bare pipeline failed on ${url}`, { cause: error });
  }
}
