/** What the crash tests pull: three images that share layers, with everything in them that a torn disk could spoil. */
import { seededRandom } from "@berth/base";
import { buildImage, type BuiltImage } from "../image.ts";
import { buildTar, type TarInput } from "../tar.ts";

/** By repository. Always the same bytes. */
export function crashImages(): ReadonlyMap<string, BuiltImage> {
  const base = buildTar([...tree("usr", 1, 60, 12_000), ...specials()]);
  const middle = buildTar([
    ...tree("opt", 2, 40, 9_000),
    { name: "usr/d1/.wh.f1", data: "" },
    { name: "usr/d2/.wh..wh..opq", data: "" },
    { name: "usr/d2/new", data: "in place of all that was there" },
    { name: "copied-up", type: "1", linkName: "usr/d3/f3" },
    { name: "lib/below-a-link", data: "reaches usr/lib" },
  ]);
  const top = (seed: number): Buffer =>
    buildTar([{ name: `big-${seed}`, data: noise(seed, 1_500_000) }, ...tree(`app${seed}`, seed, 30, 4_000)]);
  return new Map([
    ["one", buildImage({ layers: [base, middle, top(11)].map((tar) => ({ tar })) })],
    ["two", buildImage({ layers: [base, middle, top(12), top(13)].map((tar) => ({ tar })) })],
    ["three", buildImage({ layers: [{ tar: base }, { tar: top(14), stored: "plain" }] })],
  ]);
}

function tree(root: string, seed: number, files: number, bytes: number): TarInput[] {
  const entries: TarInput[] = [{ name: `${root}/`, type: "5" }];
  for (let n = 0; n < 8; n += 1) entries.push({ name: `${root}/d${n}/`, type: "5", mode: 0o750 + (n % 2) * 5 });
  for (let n = 0; n < files; n += 1) {
    const data = noise(seed * 1_000 + n, Math.floor((bytes * (n + 1)) / files));
    entries.push({ name: `${root}/d${n % 8}/f${n}`, data, uid: n, mode: n % 3 === 0 ? 0o600 : 0o755 });
  }
  return entries;
}

function specials(): TarInput[] {
  return [
    { name: "tmp/", type: "5", mode: 0o1777 },
    { name: "usr/lib/", type: "5" },
    { name: "lib", type: "2", linkName: "usr/lib" },
    { name: "usr/lib/su", data: "set uid", mode: 0o4755 },
    { name: "usr/lib/su-too", type: "1", linkName: "usr/lib/su" },
    { name: "usr/lib/empty", data: "" },
    { name: "usr/lib/pipe", type: "6" },
    { name: "usr/lib/null", type: "3", major: 1, minor: 3 },
    { name: "usr/lib/caps", data: "attributes", pax: { "SCHILY.xattr.user.note": Buffer.from([1, 0, 255]) } },
  ];
}

function noise(seed: number, bytes: number): Buffer {
  const random = seededRandom(seed);
  const data = Buffer.allocUnsafe(bytes);
  for (let at = 0; at < bytes; at += 1) data[at] = random() * 256;
  return data;
}
