import assert from "node:assert/strict";
import { lstatSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { idmapProblem, mapId, mountIdmapped, parseIdRanges } from "./idmap.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";

test("parseIdRanges reads containerd's mappings and names the field of a bad one", () => {
  assert.deepEqual(parseIdRanges("0:100000:65536,65536:7:1", "f"), [
    { container: 0, host: 100_000, size: 65_536 },
    { container: 65_536, host: 7, size: 1 },
  ]);
  for (const bad of ["", "0:1", "0:1:0", "a:b:c", "0:1:2,", "0:1:2:3", "-1:0:1"]) {
    assert.throws(() => parseIdRanges(bad, "uidmapping"), { code: "INVALID_ARGUMENT", message: /uidmapping/ }, bad);
  }
});

test("mapId maps what is mapped, and nobody for the rest", () => {
  const ranges = parseIdRanges("0:1000:10,20:5:1", "f");
  assert.deepEqual(
    [0, 9, 10, 20, 21].map((id) => mapId(ranges, id)),
    [1000, 1009, 65_534, 5, 65_534],
  );
});

test("mountIdmapped shows other owners, and writes back those of the disk", { skip: withoutRoot }, (t) => {
  const dir = scratch(t, "tmpfs");
  const [source, target] = [join(dir, "source"), join(dir, "target")];
  for (const path of [source, target]) mkdirSync(path);
  writeFileSync(join(source, "f"), "");
  assert.equal(idmapProblem(source), undefined);
  const mapping = { uid: parseIdRanges("0:100000:65536", "u"), gid: parseIdRanges("0:200000:65536", "g") };
  mountIdmapped(source, target, mapping);
  const { uid, gid } = lstatSync(join(target, "f"));
  assert.deepEqual([uid, gid], [100_000, 200_000]);
  assert.equal(lstatSync(join(source, "f")).uid, 0);
  const again = join(dir, "readonly");
  mkdirSync(again);
  mountIdmapped(source, again, mapping, { readonly: true });
  assert.throws(() => writeFileSync(join(again, "g"), ""), { code: "EROFS" });
  assert.match(idmapProblem("/proc") ?? "", /idmapped/);
});
