/**
 * npm run pack: a release for hosts, in `dist/`: `berth-VERSION-linux-ARCH.tar.gz`, `SHA256SUMS`, and the same as an image (`image/`). Needs what `npm ci` has
 * installed and GNU tar, and fetches nothing.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { archiveFolder } from "./archive.ts";
import { writeImage } from "./image.ts";
import { releaseName, releaseOf } from "./release.ts";
import { layTree } from "./tree.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
const USAGE = "npm run pack -- [--out FOLDER] [--version VERSION]";

async function pack(out: string, version: string | undefined): Promise<void> {
  const release = releaseOf(REPOSITORY, version);
  const name = releaseName(release);
  mkdirSync(out, { recursive: true });
  const scratch = mkdtempSync(join(out, ".pack-"));
  try {
    await layTree(REPOSITORY, join(scratch, name), release);
    const file = `${name}.tar.gz`;
    const { sha256, sizeBytes } = await archiveFolder(join(scratch, name), join(out, file), release.timeSeconds);
    writeFileSync(join(out, "SHA256SUMS"), `${sha256}  ${file}\n`);
    const digest = writeImage(join(out, file), sha256, join(out, "image"), release);
    const at = relative(process.cwd(), join(out, file));
    process.stdout.write(
      `${at}  ${(sizeBytes / 1e6).toFixed(1)} MB\nsha256:${sha256}\nas an image in ${relative(process.cwd(), join(out, "image"))}: ${digest}\n`,
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

try {
  const options = { out: { type: "string", default: join(REPOSITORY, "dist") }, version: { type: "string" } } as const;
  const { values } = parseArgs({ options });
  await pack(resolve(values.out), values.version);
} catch (error) {
  process.stderr.write(`pack: ${error instanceof Error ? error.message : String(error)}\nusage: ${USAGE}\n`);
  process.exitCode = 1;
}
