/**
 * The child of `crash.test.ts`: several writers that write, commit, and delete some of what they committed, until it is
 * killed. Each line on its standard output tells of something done: `write`, `commit DIGEST`, `deleting DIGEST`.
 * `node crash-child.ts FOLDER SEED`
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, type Random } from "@berth/base";
import { openMetadata } from "@berth/metadata";
import { contentMigrations, openContentStore, type ContentStore } from "../index.ts";

const WRITERS = 4;

function say(line: string): void {
  writeSync(1, `${line}\n`);
}

function randomBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += 1) bytes[at] = random() * 256;
  return bytes;
}

async function writeForever(store: ContentStore, ref: string, random: Random): Promise<never> {
  for (let n = 0; ; n += 1) {
    await using writer = await store.writer("crash", { ref: `${ref}-${n}` });
    for (let chunks = Math.floor(random() * 5); chunks >= 0; chunks -= 1) {
      await writer.write(randomBytes(random, 1 + Math.floor(random() * 20_000)));
      say("write");
    }
    const { digest } = await writer.commit({});
    say(`commit ${digest}`);
    if (random() > 0.3) continue;
    say(`deleting ${digest}`);
    await store.delete("crash", digest);
  }
}

async function main(folder: string, seed: number): Promise<void> {
  const metadata = await openMetadata({ path: join(folder, "metadata.db"), migrations: contentMigrations });
  const store = await openContentStore({ root: join(folder, "content"), metadata });
  const writers = Array.from({ length: WRITERS }, (_, n) =>
    writeForever(store, `${seed}-${n}`, seededRandom(seed * 100 + n)),
  );
  await Promise.all(writers);
}

if (import.meta.main) await main(process.argv[2]!, Number(process.argv[3]));
