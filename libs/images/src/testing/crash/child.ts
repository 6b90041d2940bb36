/**
 * The process that is killed, or whose disk is: pulls, removes and collects without end. Each line on its standard output
 * tells of something done: `ready`, `pulled SNAPSHOTTER NAME`, `removing NAME`, `failed TEXT`.
 * `node child.ts ROOT REGISTRY SEED BOOT NAME…`
 */
import { writeSync } from "node:fs";
import { seededRandom, StatusError } from "@berth/base";
import type { ImagesConfig } from "../../index.ts";
import { startTestHost } from "../host.ts";

function say(line: string): void {
  writeSync(1, `${line}\n`);
}

async function main(root: string, registry: string, seed: number, bootId: string, names: string[]): Promise<never> {
  const random = seededRandom(seed);
  // Half of the lives fetch even these small layers by several ranges at once, or work on them by two threads.
  const ranges = { parallelRangeThresholdBytes: 200_000, rangeBytes: 96 * 1024, minIdleShare: 0 };
  const config: ImagesConfig = {
    ...(random() < 0.5 ? { ranges } : {}),
    ...(random() < 0.5 ? { twoThreadsBytes: 0 } : {}),
  };
  const host = await startTestHost({ hosts: [{ host: registry, plainHttp: true }], root, bootId, config });
  const pick = (): string => names[Math.floor(random() * names.length)]!;
  const pull = async (name: string): Promise<void> => {
    const snapshotter = random() < 0.75 ? "overlayfs" : "native";
    await host.images.pull({ namespace: "shop", image: name, snapshotter });
    say(`pulled ${snapshotter} ${name}`);
  };
  const remove = async (name: string): Promise<void> => {
    say(`removing ${name}`);
    await host.images.remove("shop", name).catch((error: unknown) => {
      if (StatusError.from(error).reason !== "IMAGE_MISSING") throw error;
    });
  };
  say("ready");
  for (;;) {
    const chance = random();
    if (chance < 0.5) await pull(pick());
    else if (chance < 0.75) await Promise.all(names.map(pull));
    else if (chance < 0.9) await remove(pick());
    else await host.images.collect();
  }
}

if (import.meta.main) {
  const [root, registry, seed, boot, ...names] = process.argv.slice(2) as [string, string, string, string];
  await main(root, registry, Number(seed), boot, names).catch((error: unknown) => {
    say(`failed ${String(error).split("\n")[0]}`);
    // Waits for its end, with all that it holds open: an end of its own would tidy up.
    setInterval(() => undefined, 60_000);
  });
}
