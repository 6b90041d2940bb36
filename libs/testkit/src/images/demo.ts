/** The images that a newcomer and the tests run: made from Debian's busybox-static, without the internet. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { seededRandom } from "@berth/base";
import { buildImage, buildLayer, type BuiltImage, type BuiltLayer } from "./build.ts";
import type { TarEntry } from "./tar.ts";

const BUSYBOX = "/bin/busybox";

/** Says hello, then that it still runs; ends at once, and with 0, when asked to. */
const HELLO = `#!/bin/sh
trap 'echo "$(hostname): goodbye"; exit 0' TERM INT
echo "$(hostname): \${GREETING:-hello} from $(uname -m), process $$"
count=0
while :; do
  sleep "\${INTERVAL_SECONDS:-5}" &
  wait $!
  count=$((count + 1))
  echo "$(hostname): still here ($count)"
done
`;

let busyboxLayer: BuiltLayer | undefined;

/** A root file system of one static program and its many names. Made once per process. */
export function busyboxRootfs(): BuiltLayer {
  busyboxLayer ??= buildLayer({ entries: busyboxEntries() });
  return busyboxLayer;
}

/** `demo/hello`: greets, and goes on until it is stopped. */
export function helloImage(): BuiltImage {
  return buildImage({
    layers: [
      busyboxRootfs(),
      { entries: [dir("usr/local/bin"), { path: "usr/local/bin/hello", mode: 0o755, content: HELLO }] },
    ],
    config: { ...COMMON, Entrypoint: ["/usr/local/bin/hello"], WorkingDir: "/home" },
  });
}

/** A shell and nothing running: for tests that bring their own command. */
export function busyboxImage(): BuiltImage {
  return buildImage({ layers: [busyboxRootfs()], config: { ...COMMON, Cmd: ["/bin/sh"] } });
}

export interface FilesOptions {
  /** Default 3,000. */
  readonly count?: number;
  readonly seed?: number;
}

/** `demo/files`: some thousand small files over busybox; prints how many it finds, then waits. */
export function filesImage(options: FilesOptions = {}): BuiltImage {
  const { count = 3_000, seed = 1 } = options;
  const script = "find /srv/files -type f | wc -l; exec sleep infinity";
  return buildImage({
    layers: [busyboxRootfs(), { entries: smallFiles(count, seed) }],
    config: { ...COMMON, Cmd: ["/bin/sh", "-c", script], WorkingDir: "/srv/files" },
  });
}

const COMMON = { Env: ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"] };

const dir = (path: string, mode = 0o755): TarEntry => ({ path, type: "dir", mode });

function* busyboxEntries(): Generator<TarEntry> {
  for (const path of ["bin", "sbin", "usr", "usr/bin", "usr/sbin", "etc", "dev", "proc", "sys", "home", "var", "run"]) {
    yield dir(path);
  }
  yield dir("root", 0o700);
  yield dir("tmp", 0o1777);
  yield { path: "etc/passwd", content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n" };
  yield { path: "etc/group", content: "root:x:0:\nnogroup:x:65534:\n" };
  yield { path: "bin/busybox", mode: 0o755, content: readFileSync(BUSYBOX) };
  const applets = execFileSync(BUSYBOX, ["--list-full"], { encoding: "utf8" }).trim().split("\n");
  for (const path of applets) {
    // A link of its own name would take the program's place.
    if (path !== "bin/busybox") yield { path, type: "symlink", linkTo: BUSYBOX, mode: 0o777 };
  }
}

function* smallFiles(count: number, seed: number): Generator<TarEntry> {
  const random = seededRandom(seed);
  yield dir("srv");
  yield dir("srv/files");
  for (let n = 0; n < count; n += 1) {
    const folder = `srv/files/${String(Math.floor(n / 100)).padStart(3, "0")}`;
    if (n % 100 === 0) yield dir(folder);
    const line = `${n} ${random().toString(36).slice(2)}\n`;
    yield { path: `${folder}/${n}.txt`, content: line.repeat(1 + Math.floor(random() * 150)) };
  }
}
