/**
 * The process that is killed while it collects: makes images and leases, drops most of them, and collects, without end. Tells of
 * each thing on its standard output: `made NAME`, `removing NAME`, `leased DIGEST`, `unleasing DIGEST`, `deleting`, `collected`.
 * `node gc-child.ts ROOT SEED`
 */
import { writeSync } from "node:fs";
import { seededRandom } from "@berth/base";
import { openGcLab, type LabImage } from "./gc-lab.ts";

const NAMESPACES = ["shop", "toys"] as const;

function say(line: string): void {
  writeSync(1, `${line}\n`);
}

async function main(root: string, seed: number): Promise<never> {
  const random = seededRandom(seed);
  const lab = await openGcLab({ root, onDelete: async () => say("deleting") });
  const leased = new Map<string, string>();
  for (let round = 0; ; round += 1) {
    let base: LabImage | undefined;
    for (let i = 0; i < 4; i += 1) {
      const name = `docker.io/library/app-${seed}-${round}-${i}:1`;
      const namespace = NAMESPACES[Math.floor(random() * 2)]!;
      const below: LabImage | undefined = namespace === "shop" ? base : undefined;
      const image = await lab.image(namespace, name, { layers: 2, ...(below === undefined ? {} : { base: below }) });
      if (namespace === "shop") base = image;
      say(`made ${namespace} ${name}`);
      if (random() < 0.8) {
        say(`removing ${namespace} ${name}`);
        await lab.images.remove(namespace, name);
      }
    }
    const { id } = await lab.images.leases.create("shop");
    const digest = await lab.blob("shop", `leased ${seed} ${round}`);
    await lab.images.leases.addResource("shop", id, { type: "content", id: digest });
    leased.set(digest, id);
    say(`leased ${digest}`);
    for (const [held, lease] of leased) {
      if (random() > 0.5) continue;
      say(`unleasing ${held}`);
      await lab.images.leases.delete("shop", lease);
      leased.delete(held);
    }
    await lab.images.gc.run();
    say("collected");
  }
}

if (import.meta.main) {
  const [root, seed] = process.argv.slice(2) as [string, string];
  await main(root, Number(seed));
}
