/** With what a webhook signs: the secret that was made for it and, for a while, the one before; or the lines of a file. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { webhookSpec, type WebhookRow } from "@berth/store";
import { secretProblem } from "./signature.ts";

/** The newest first. @throws FAILED_PRECONDITION `WEBHOOK_SECRET_UNUSABLE` */
export async function secretsOf(row: WebhookRow, directory: string | undefined, now: Date): Promise<string[]> {
  const { secretFile } = webhookSpec(row);
  if (secretFile === "") {
    const before = row.previousSecretUntil !== null && row.previousSecretUntil > now ? [row.previousSecret] : [];
    return [row.secret, ...before];
  }
  const file = `${row.namespace}/${secretFile}`;
  if (directory === undefined) throw unusable(file, "the controller's configuration has no webhooks.secretsDirectory");
  // Both are names of Berth's: no dots, no slashes.
  const text = await readFile(join(directory, row.namespace, secretFile), "utf8").catch((error: unknown) => {
    throw unusable(file, (error as NodeJS.ErrnoException).code === "ENOENT" ? "it is not there" : "it cannot be read");
  });
  const lines = text.split("\n").map((line) => line.trim()).filter((line) => line !== ""); // prettier-ignore
  if (lines.length === 0) throw unusable(file, "it is empty");
  for (const [index, line] of lines.entries()) {
    const problem = secretProblem(line);
    if (problem !== undefined) throw unusable(file, `line ${index + 1} ${problem}`);
  }
  return lines;
}

function unusable(file: string, why: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", `the secret file ${file} cannot be used: ${why}`, {
    reason: "WEBHOOK_SECRET_UNUSABLE",
  });
}
