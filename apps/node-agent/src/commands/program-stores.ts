/** The commands over what a host stores: images and what they are made of. */
import type { Command } from "commander";
import type { Add, Bind, Module } from "./program.ts";

const FILTER_HELP = 'containerd\'s filters, any of which may hold, such as name~=busybox or labels."a.b"==c';

export function addImages(program: Command, add: Add, bind: Bind): void {
  program.commandsGroup("Images:");
  add(
    program,
    "pull <image>",
    "pull an image, unpack it, and show how far it is",
    "  berthd pull docker.io/library/busybox:1\n  berthd -n shop pull registry.test/app:v2 --snapshotter native",
  )
    .option("--snapshotter <name>", "unpack with this snapshotter (default: the agent's)")
    .option("--no-unpack", "fetch the bytes only")
    .option("--lease <id>", "add what it makes or finds to this lease")
    .action(bind(() => import("./pull.ts"), "pull"));
  const images = add(program, "images", "list, inspect, push, import, export, tag, pin and remove images");
  add(
    images,
    "ls [filter...]",
    "list the images of a namespace",
    "  berthd images ls\n  berthd -n shop images ls name~=app -o json",
  )
    .usage("[options] [FILTER...]")
    .addHelpText("after", `\nFilters: ${FILTER_HELP}`)
    .action(bind(() => import("./images.ts"), "list"));
  add(images, "inspect <image>", "tell all about an image", "  berthd images inspect busybox").action(
    bind(() => import("./inspect.ts"), "inspect"),
  );
  add(images, "history <image>", "how an image was built, newest first").action(
    bind(() => import("./inspect.ts"), "history"),
  );
  add(images, "usage", "what the images of a namespace cost").action(bind(() => import("./inspect.ts"), "usage"));
  add(
    images,
    "tag <image> <name>",
    "give an image another name",
    "  berthd images tag busybox registry.test/tools:1",
  ).action(bind(() => import("./images.ts"), "tag"));
  add(
    images,
    "rm <image...>",
    "drop names; what nothing else needs goes with the next collection",
    "  berthd images rm busybox registry.test/tools:1",
  ).action(bind(() => import("./images.ts"), "remove"));
  add(images, "prune [filter...]", "remove images that nothing uses", "  berthd images prune --older-than 7d --dry-run")
    .usage("[options] [FILTER...]")
    .option("--dangling", "only those without a tag")
    .option("--older-than <duration>", "only those not used and not pulled for so long, such as 7d")
    .option("--dry-run", "remove nothing, and say what would go")
    .action(bind(() => import("./inspect.ts"), "prune"));
  addTransfers(images, add, bind);
  add(
    images,
    "pin <image>",
    "keep an image when the disk is full, and from expiring",
    "  berthd images pin busybox --for 7d",
  )
    .option("--for <duration>", "so long (default: until it is unpinned)")
    .option("--holder <name>", "in this one's name; it stays while any holder's pin lasts")
    .action(bind(() => import("./images.ts"), "pin"));
  add(images, "unpin <image>", "take a pin away")
    .option("--holder <name>", "this one's")
    .action(bind(() => import("./images.ts"), "unpin"));
  add(images, "pins", "list the pins of a namespace").action(bind(() => import("./images.ts"), "pins"));
}

function addTransfers(images: Command, add: Add, bind: Bind): void {
  const load = (): Promise<Module> => import("./transfers.ts");
  add(
    images,
    "push <image> [target]",
    "push an image, by its own name or another",
    "  berthd images push app:v2 registry.test/app:v2",
  ).action(bind(load, "push"));
  add(
    images,
    "import <path>",
    "import an OCI or Docker archive; - for standard input",
    "  berthd images import app.tar\n  docker save app | berthd -n shop images import -",
  )
    .option("--name <image>", "the name of the archive's only image")
    .option("--base-name <repository>", "for images that the archive names by a bare tag")
    .option("--only <image...>", "only these of the archive")
    .option("--snapshotter <name>", "unpack with this snapshotter (default: the agent's)")
    .option("--no-unpack", "record and verify only")
    .option("--lease <id>", "add what it makes or finds to this lease")
    .action(bind(load, "importImages"));
  add(
    images,
    "export <path> <image...>",
    "write images to an archive; - for standard output",
    "  berthd images export app.tar app:v2\n  berthd images export - app:v2 | ssh other berthd images import -",
  )
    .option("--format <format>", "oci, which docker load reads too, or docker", "oci")
    .option("--directory", "the path is an OCI layout's folder, new or empty")
    .action(bind(load, "exportImages"));
}

export function addContent(program: Command, add: Add, bind: Bind): void {
  program.commandsGroup("What they are made of:");
  const load = (): Promise<Module> => import("./content.ts");
  const content = add(program, "content", "list, read, label and remove blobs, and those on their way");
  add(
    content,
    "ls [filter...]",
    "list the blobs of a namespace",
    "  berthd content ls\n  berthd content ls 'size>1000000'",
  )
    .usage("[options] [FILTER...]")
    .action(bind(load, "list"));
  add(content, "info <digest>", "tell size, age and labels of a blob").action(bind(load, "info"));
  add(content, "cat <digest>", "write a blob's bytes to standard output", "  berthd content cat sha256:… | jq .")
    .option("--offset <bytes>", "begin here", "0")
    .option("--length <bytes>", "so many only (default: to the end)")
    .action(bind(load, "cat"));
  add(
    content,
    "label <digest> <label...>",
    "set labels, or take them away",
    "  berthd content label sha256:… owner=me old-",
  )
    .usage("[options] DIGEST KEY=VALUE... KEY-...")
    .action(bind(load, "label"));
  add(content, "rm <digest...>", "drop this namespace's reference").action(bind(load, "remove"));
  add(content, "ingests [filter...]", "list what is on its way").action(bind(load, "ingests"));
  add(content, "abort <ref...>", "give up what is on its way").action(bind(load, "abort"));
}

export function addSnapshots(program: Command, add: Add, bind: Bind): void {
  const load = (): Promise<Module> => import("./snapshots.ts");
  const snapshots = add(program, "snapshots", "list and remove layers and containers' file systems");
  const of = (usage: string, summary: string, name: string, examples?: string): Command =>
    add(snapshots, usage, summary, examples)
      .option("--snapshotter <name>", "of this snapshotter (default: the agent's)")
      .action(bind(load, name));
  of("ls", "list the snapshots of a namespace", "list")
    .option("--parent <key>", "only the children of this one")
    .option("--kind <kind>", "only active, view or committed ones");
  of("info <key>", "tell all about a snapshot", "info");
  of("usage [key...]", "what snapshots take, without their parents; all of them without a key", "usage");
  of("mounts <key>", "the mounts of an active snapshot or a view", "mounts", "  berthd -n shop snapshots mounts web-1");
  of("rm <key...>", "remove snapshots; children first", "remove");
  add(snapshots, "snapshotters", "list the snapshotters, and why some cannot be used").action(
    bind(load, "snapshotters"),
  );
}

export function addLeases(program: Command, add: Add, bind: Bind): void {
  const load = (): Promise<Module> => import("./leases.ts");
  const leases = add(program, "leases", "make and end leases: what they hold stays though nothing else needs it");
  add(leases, "ls [filter...]", "list the leases of a namespace")
    .usage("[options] [FILTER...]")
    .action(bind(load, "list"));
  add(leases, "create [id]", "make a lease; its id is printed", "  berthd leases create --expires 24h --label owner=me")
    .option("--expires <duration>", "let it end after this long, such as 24h (default: when it is removed)")
    .option("--label <key=value...>", "with these labels")
    .action(bind(load, "create"));
  add(leases, "rm <id...>", "end leases; what only they held goes with the next collection")
    .option("--sync", "collect before it is done")
    .action(bind(load, "remove"));
  const held = "TYPE is content, snapshots/SNAPSHOTTER, ingests or images";
  add(
    leases,
    "add <id> <type> <resource>",
    "let a lease hold something",
    "  berthd leases add l1 images docker.io/library/busybox:1",
  )
    .addHelpText("after", `\n${held}.`)
    .action(bind(load, "add"));
  add(leases, "release <id> <type> <resource>", "let a lease no longer hold something")
    .addHelpText("after", `\n${held}.`)
    .action(bind(load, "release"));
  add(leases, "resources <id>", "list what a lease holds").action(bind(load, "resources"));
}
