/**
 * Puts a version beside those that are there. It is extracted by another name and renamed when it is whole, on disk, and has
 * answered once; what is found by its own name is complete.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { StatusError } from "@berth/base";
import type { VersionsFolder } from "./versions-folder.ts";

const run = promisify(execFile);

/** @throws DATA_LOSS `ARCHIVE_DIGEST`; NOT_FOUND `ARCHIVE_MISSING` */
export async function checkArchive(file: string, sha256: string): Promise<void> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(file), hash);
  } catch (error) {
    throw new StatusError("NOT_FOUND", `archive ${file} cannot be read`, { reason: "ARCHIVE_MISSING", cause: error });
  }
  const found = hash.digest("hex");
  if (found === sha256.replace(/^sha256:/, "")) return;
  throw new StatusError("DATA_LOSS", `archive ${file} has sha256 ${found}, not ${sha256}; fetch it again`, {
    reason: "ARCHIVE_DIGEST",
  });
}

/**
 * @returns the version that the archive holds
 * @throws INVALID_ARGUMENT `ARCHIVE_UNUSABLE`: it is no release, or one that does not run here
 */
export async function stageArchive(folder: VersionsFolder, archive: string): Promise<string> {
  const partial = join(folder.path, "versions", `.${process.pid}.partial`);
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true, mode: 0o755 });
  try {
    await run("tar", ["-xzf", archive, "--no-same-owner", "--strip-components=1", "-C", partial]);
    const version = /^version=(.+)$/m.exec(await readFile(join(partial, "VERSION"), "utf8"))?.[1] ?? "";
    const tree = folder.tree(version);
    await checkRuns(partial, version);
    await rm(join(partial, "cache"), { recursive: true, force: true });
    await run("sync", ["-f", partial]);
    if (!existsSync(tree)) await rename(partial, tree);
    return version;
  } catch (error) {
    if (error instanceof StatusError) throw error;
    throw new StatusError("INVALID_ARGUMENT", `${archive} is no release of Berth`, {
      reason: "ARCHIVE_UNUSABLE",
      cause: error,
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

/** Its Node runs on this host, and says what it should: the cheapest of proofs goes first. */
export async function checkRuns(tree: string, version: string): Promise<void> {
  const said = await run(join(tree, "bin/berthd"), ["--version"], { timeout: 20_000 }).then(
    ({ stdout }) => stdout.trim(),
    (error: unknown) => `fails: ${String((error as { stderr?: string }).stderr ?? error).trim()}`,
  );
  if (said === version) return;
  const message = `version ${version} does not run on this host: berthd --version ${said === "" ? "says nothing" : said}`;
  throw new StatusError("INVALID_ARGUMENT", message, { reason: "ARCHIVE_UNUSABLE" });
}
