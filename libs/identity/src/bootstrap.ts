/**
 * The first token: made once, when the store has none, and handed over in a file that only its owner reads.
 *
 * Order matters for a crash in between: the file is written (whole, and on disk) before the hash is stored, and a file
 * that is already there gives its token again. So the token in the file always works in the end, and no token exists that
 * nobody was told.
 */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { StatusError, type Logger } from "@berth/base";
import { makeToken, parseToken, type NewToken } from "./token.ts";

export interface BootstrapDeps {
  /** Stores the token unless some token exists; whether it did. One transaction, safe against other controllers. */
  storeFirstToken(token: { readonly id: string; readonly hash: string; readonly name: string }): Promise<boolean>;
  hasTokens(): Promise<boolean>;
  readonly logger: Logger;
}

export const BOOTSTRAP_NAME = "bootstrap-admin";

/** @throws FAILED_PRECONDITION `BOOTSTRAP_FILE_MISSING` when a token is needed and there is nowhere to write it */
export async function ensureBootstrapToken(deps: BootstrapDeps, file: string | undefined): Promise<void> {
  if (await deps.hasTokens()) return;
  if (file === undefined) {
    throw new StatusError(
      "FAILED_PRECONDITION",
      "the store has no token yet; set bootstrapTokenFile (BERTH_BOOTSTRAP_TOKEN_FILE) to where the first one is to be written",
      { reason: "BOOTSTRAP_FILE_MISSING" },
    );
  }
  const token = (await tokenInFile(file)) ?? (await writeTokenFile(file));
  if (await deps.storeFirstToken({ id: token.id, hash: token.hash, name: BOOTSTRAP_NAME })) {
    deps.logger.info({ file }, "the first admin token was written");
  }
}

async function tokenInFile(file: string): Promise<Pick<NewToken, "id" | "hash"> | undefined> {
  try {
    return parseToken((await readFile(file, "utf8")).trim());
  } catch {
    return undefined;
  }
}

async function writeTokenFile(file: string): Promise<NewToken> {
  const token = makeToken();
  const part = `${file}.${process.pid}.part`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const handle = await open(part, "wx", 0o600);
    try {
      await handle.writeFile(`${token.text}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(part, file);
    return token;
  } catch (error) {
    const cause = StatusError.from(error);
    throw new StatusError(cause.code, `the bootstrap token cannot be written to ${file}: ${cause.reason}`, {
      reason: "BOOTSTRAP_FILE_UNWRITABLE",
      cause,
    });
  }
}
