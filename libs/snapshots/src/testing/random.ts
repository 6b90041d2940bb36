/**
 * Random operations against a model: a map from keys to plain trees. Whatever the order of preparing, writing, committing
 * and removing, the snapshotter must answer and show what the model does. The same seed gives the same run.
 */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, StatusError, type Random } from "@berth/base";
import type { SnapshotKind } from "../snapshotter.ts";
import { collected, within, type ConformanceHost } from "./layers.ts";
import { readTree, type Tree } from "./tree.ts";

interface Modelled {
  kind: SnapshotKind;
  parent: string;
  tree: Record<string, string>;
}

export interface RandomRun {
  readonly seed: number;
  readonly operations: number;
}

/** Runs the operations; a failure names the seed and the step. Returns how often each kind of operation succeeded. */
export async function randomOperations(host: ConformanceHost, run: RandomRun): Promise<Record<string, number>> {
  const walker = new Walker(host, seededRandom(run.seed));
  for (let step = 0; step < run.operations; step += 1) {
    try {
      await walker.step();
    } catch (error) {
      throw new Error(`seed ${run.seed}, step ${step}: ${(error as Error).message}`, { cause: error });
    }
  }
  await walker.compareAll();
  return walker.done;
}

class Walker {
  readonly done: Record<string, number> = {};
  readonly #host: ConformanceHost;
  readonly #random: Random;
  readonly #model = new Map<string, Modelled>();
  #count = 0;

  constructor(host: ConformanceHost, random: Random) {
    this.#host = host;
    this.#random = random;
  }

  async step(): Promise<void> {
    const choice = this.#random() * 9;
    if (choice < 2) await this.#create("active");
    else if (choice < 3) await this.#create("view");
    else if (choice < 5) await this.#write();
    else if (choice < 7) await this.#commit();
    else if (choice < 8) await this.#remove();
    else await this.#look();
  }

  async compareAll(): Promise<void> {
    const records = await collected(this.#host.snapshotter.walk());
    const found = records.map(({ key, kind, parent }) => [key, { kind, parent }] as const);
    const wanted = [...this.#model].map(([key, { kind, parent }]) => [key, { kind, parent }] as const);
    assert.deepEqual(Object.fromEntries(found), Object.fromEntries(wanted));
    for (const [key, { kind }] of this.#model) if (kind !== "committed") await this.#compare(key);
  }

  async #create(kind: "active" | "view"): Promise<void> {
    const { snapshotter } = this.#host;
    const key = this.#random() < 0.1 ? this.#anyKey() : `k${(this.#count += 1)}`;
    const parent = this.#random() < 0.2 ? "" : this.#anyKey();
    const below = this.#model.get(parent);
    const expected = this.#model.has(key)
      ? "SNAPSHOT_EXISTS"
      : parent !== "" && below?.kind !== "committed"
        ? "SNAPSHOT_PARENT_MISSING"
        : undefined;
    const create = kind === "active" ? snapshotter.prepare(key, parent) : snapshotter.view(key, parent);
    if (!(await this.#succeeded(kind, create, expected))) return;
    this.#model.set(key, { kind, parent, tree: { ...below?.tree } });
  }

  async #write(): Promise<void> {
    const key = this.#keyOf("active");
    if (key === undefined) return;
    const { tree } = this.#model.get(key)!;
    await within(this.#host, await this.#host.snapshotter.mounts(key), (root) => {
      for (let i = 0; i < 3; i += 1) this.#change(root, tree);
      assert.deepEqual(readTree(root), tree);
    });
    this.#note("write");
  }

  /** One change on disk and in the model: directories d0…d2 with files f0…f3, and files of the same names on top. */
  #change(root: string, tree: Record<string, string>): void {
    const directory = `d${Math.floor(this.#random() * 3)}`;
    const file = `${directory}/f${Math.floor(this.#random() * 4)}`;
    const choice = this.#random();
    if (choice < 0.15 || (choice < 0.3 && tree[directory]?.startsWith("file"))) {
      rmSync(join(root, directory), { recursive: true, force: true });
      for (const path of Object.keys(tree)) if (`${path}/`.startsWith(`${directory}/`)) delete tree[path];
    } else if (choice < 0.3) {
      rmSync(join(root, file), { force: true });
      delete tree[file];
    } else if (choice < 0.4 && tree[directory] === undefined) {
      writeFileSync(join(root, directory), "plain");
      tree[directory] = "file 644 0:0 plain";
    } else if (!tree[directory]?.startsWith("file")) {
      mkdirSync(join(root, directory), { recursive: true });
      const text = String(this.#random());
      writeFileSync(join(root, file), text);
      tree[directory] = "dir 755 0:0";
      tree[file] = `file 644 0:0 ${text}`;
    }
  }

  async #commit(): Promise<void> {
    const key = this.#anyKey();
    const name = this.#random() < 0.15 ? this.#anyKey() : `c${(this.#count += 1)}`;
    const found = this.#model.get(key);
    const expected =
      found === undefined
        ? "SNAPSHOT_MISSING"
        : found.kind !== "active"
          ? "SNAPSHOT_NOT_ACTIVE"
          : name !== key && this.#model.has(name)
            ? "SNAPSHOT_EXISTS"
            : undefined;
    if (!(await this.#succeeded("commit", this.#host.snapshotter.commit(name, key), expected))) return;
    this.#model.delete(key);
    this.#model.set(name, { ...found!, kind: "committed" });
  }

  async #remove(): Promise<void> {
    const key = this.#anyKey();
    const children = [...this.#model.values()].some(({ parent }) => parent === key);
    const expected = !this.#model.has(key) ? "SNAPSHOT_MISSING" : children ? "SNAPSHOT_HAS_CHILDREN" : undefined;
    if (await this.#succeeded("remove", this.#host.snapshotter.remove(key), expected)) this.#model.delete(key);
  }

  async #look(): Promise<void> {
    const key = this.#keyOf(this.#random() < 0.5 ? "view" : "active");
    if (key !== undefined) await this.#compare(key);
  }

  async #compare(key: string): Promise<void> {
    const tree: Tree = await within(this.#host, await this.#host.snapshotter.mounts(key), readTree);
    assert.deepEqual(tree, this.#model.get(key)!.tree, `tree of ${key}`);
    this.#note("look");
  }

  async #succeeded(operation: string, promise: Promise<unknown>, expected: string | undefined): Promise<boolean> {
    const outcome = await promise.then(
      () => undefined,
      (error: unknown) => StatusError.from(error).reason,
    );
    assert.equal(outcome, expected, operation);
    this.#note(expected === undefined ? operation : `${operation} refused`);
    return expected === undefined;
  }

  #anyKey(): string {
    return this.#random() < 0.05 || this.#model.size === 0 ? "absent" : this.#pick([...this.#model.keys()]);
  }

  #keyOf(kind: SnapshotKind): string | undefined {
    const keys = [...this.#model].filter(([, modelled]) => modelled.kind === kind).map(([key]) => key);
    return keys.length === 0 ? undefined : this.#pick(keys);
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)]!;
  }

  #note(operation: string): void {
    this.done[operation] = (this.done[operation] ?? 0) + 1;
  }
}
