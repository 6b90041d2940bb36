/** A folder as a `.tar.gz` whose bytes follow from its content alone: no times, owners, orders or umasks of this machine. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { basename, dirname } from "node:path";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";

export interface Archived {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** @param timeSeconds the time that all files have, of the commit */
export async function archiveFolder(folder: string, file: string, timeSeconds: number): Promise<Archived> {
  const flags = [
    "--sort=name",
    "--format=gnu",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    "--mode=u=rwX,go=rX",
    `--mtime=@${timeSeconds}`,
  ];
  const tar = spawn("tar", ["--create", ...flags, "-C", dirname(folder), basename(folder)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(tar, "close");
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const meter = new PassThrough();
  meter.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    sizeBytes += chunk.length;
  });
  // Node's own zlib, for Node is pinned and the machine's gzip is not.
  await pipeline(tar.stdout, createGzip({ level: 6 }), meter, createWriteStream(file));
  const [code] = (await ended) as [number | null];
  if (code !== 0) throw new Error(`tar of ${folder} ended with code ${code}`);
  return { sha256: hash.digest("hex"), sizeBytes };
}
