/** `kill -9` in the middle of collections: what is referred to is whole afterwards, and the rest goes with the next one. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { digestHex, seededRandom, type Digest } from "@berth/base";
import { unmountUnder } from "@berth/linux";
import { chainIds, parseImageConfig, parseManifest } from "@berth/model";
import { inMemory, openGcLab, type GcLab } from "../testing/gc-lab.ts";

/** A sample; the soak takes more. */
const FACTOR = Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const KILLS = 3 * FACTOR;
const CHILD = join(import.meta.dirname, "../testing/gc-child.ts");

/** What the killed processes have promised. */
interface Promised {
  readonly images: Set<string>;
  readonly leased: Set<string>;
}

/** Runs a child until it has told of so many deletions, kills it, and notes what it had promised by then. */
async function killAmid(root: string, seed: number, deletions: number, promised: Promised): Promise<void> {
  const child = spawn(process.execPath, [CHILD, root, String(seed)], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  try {
    let left = deletions;
    for await (const line of createInterface({ input: child.stdout })) {
      const [what, ...rest] = line.split(" ");
      if (what === "made") promised.images.add(rest.join(" "));
      if (what === "removing") promised.images.delete(rest.join(" "));
      if (what === "leased") promised.leased.add(rest[0]!);
      if (what === "unleasing") promised.leased.delete(rest[0]!);
      if (what === "deleting") left -= 1;
      if (left === 0) child.kill("SIGKILL");
    }
  } finally {
    child.kill("SIGKILL");
    await exited;
  }
}

/** Checks each image to the bytes, and gives everything that images and leases keep. */
async function checkPromises(lab: GcLab, promised: Promised): Promise<ReadonlySet<string>> {
  const live = new Set<string>();
  for (const image of promised.images) {
    const [namespace, name] = image.split(" ") as [string, string];
    const { target } = await lab.images.get(namespace, name);
    const document = parseManifest(await lab.content.readAll(namespace, target.digest), name);
    assert.equal(document.kind, "manifest");
    if (document.kind !== "manifest") continue;
    const { config, layers } = document.manifest;
    for (const { digest } of [target, config, ...layers]) {
      assert.ok((await lab.content.verify(digest)).ok, `${digest} of ${name}`);
      live.add(`${namespace} ${digest}`);
    }
    const { rootfs } = parseImageConfig(await lab.content.readAll(namespace, config.digest), name);
    for (const chainId of chainIds(rootfs.diff_ids)) {
      assert.equal((await lab.snapshots.namespace(namespace).stat(chainId)).kind, "committed");
      live.add(`${namespace} ${chainId}`);
    }
    assert.equal((await lab.images.unpacked(namespace, name, "overlayfs")).chainId, chainIds(rootfs.diff_ids).at(-1));
  }
  for (const digest of promised.leased) {
    assert.ok((await lab.content.verify(digest as Digest)).ok, `leased ${digest}`);
    live.add(`shop ${digest}`);
  }
  return live;
}

/** Rows, files and what is live must be the same. */
async function checkNothingElse(lab: GcLab, live: ReadonlySet<string>): Promise<void> {
  const found: string[] = [];
  for (const namespace of ["shop", "toys"]) {
    for (const key of [...(await lab.contents(namespace)), ...(await lab.layers(namespace))])
      found.push(`${namespace} ${key}`);
  }
  assert.deepEqual(found.sort(), [...live].sort());
  const digests = new Set(lab.metadata.all("SELECT digest FROM blobs").map((row) => String(row["digest"])));
  const files = readdirSync(join(lab.root, "content/blobs/sha256"));
  assert.deepEqual(files.sort(), [...digests].map((digest) => digestHex(digest as Digest)).sort());
  const documents = lab.metadata.all("SELECT digest FROM blob_edges").map((row) => String(row["digest"]));
  assert.deepEqual(
    documents.filter((digest) => !digests.has(digest)),
    [],
  );
  for (const row of lab.metadata.all("SELECT id FROM snapshots")) {
    assert.ok(existsSync(join(lab.root, "overlayfs/snapshots", String(row["id"]))));
  }
}

test(
  "a collection killed anywhere loses nothing that is referred to, and the next one finishes it",
  { timeout: 60_000 * FACTOR },
  async () => {
    const root = await mkdtemp(join(inMemory(), "berth-gc-crash-"));
    const random = seededRandom(7_007);
    const promised: Promised = { images: new Set(), leased: new Set() };
    try {
      for (let kill = 1; kill <= KILLS; kill += 1) {
        await killAmid(root, kill, 1 + Math.floor(random() * 40), promised);
        await using lab = await openGcLab({ root });
        // A removal that was told of may not have happened, and a thing made may not have been told of: rows decide.
        for (const { namespace, name } of [...(await lab.images.list("shop")), ...(await lab.images.list("toys"))]) {
          promised.images.add(`${namespace} ${name}`);
        }
        for (const { id } of await lab.images.leases.list("shop")) {
          for (const resource of await lab.images.leases.listResources("shop", id)) promised.leased.add(resource.id);
        }
        const live = await checkPromises(lab, promised);
        await lab.images.gc.run({ trigger: "startup" });
        await checkPromises(lab, promised);
        await checkNothingElse(lab, live);
      }
      assert.ok(promised.leased.size > 0 && promised.images.size > 0);
    } finally {
      unmountUnder(root, { detach: true });
      await rm(root, { recursive: true, force: true });
    }
  },
);
