import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { promisify } from "node:util";
import { StatusError } from "@berth/base";
import { isMountPoint } from "@berth/linux";
import type { Attachment } from "../network.ts";
import { inOwnNetns } from "../testing/in-netns.ts";
import { makeFixture, pluginDirectory, traces } from "../testing/fixture.ts";

const run = promisify(execFile);
const address = (attachment: Attachment): string => attachment.addresses[0]!;
const inside = (attachment: Attachment, ...command: string[]): [string, string[]] => [
  "nsenter",
  [`--net=${attachment.netnsPath}`, "--", ...command],
];

/** A one-shot TCP server in the namespace that answers with its argument; resolves when it listens. */
async function serve(attachment: Attachment, port: number, answer: string): Promise<AsyncDisposable> {
  const script = `require("net").createServer(s => s.end(${JSON.stringify(answer)})).listen(${port}, () => console.log("up"))`;
  const child = spawn(...inside(attachment, process.execPath, "-e", script), { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Waits for a child process with this command line; killed, and its caller's failure heard, when disposed. */
async function childOf(parent: number, command: string, caller: Promise<unknown>): Promise<Disposable> {
  caller.catch(() => {});
  for (;;) {
    const { stdout } = await run("ps", ["-eo", "pid,ppid,args"]);
    for (const line of stdout.split("\n")) {
      const [pid, ppid, ...args] = line.trim().split(/\s+/);
      if (Number(ppid) !== parent || args.join(" ") !== command) continue;
      return { [Symbol.dispose]: () => void process.kill(Number(pid), "SIGKILL") };
    }
  }
}

function hasStatus(code: string, reason: string, ...words: string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StatusError, String(error));
    assert.deepEqual([error.code, error.reason], [code, reason], error.message);
    for (const word of words) assert.ok(error.message.includes(word), `${error.message} should name ${word}`);
    return true;
  };
}

inOwnNetns(import.meta.filename, () => {
  test("attach connects two containers, which reach each other by ping and TCP", async () => {
    await using fixture = await makeFixture();
    const a = await fixture.network.attach({ namespace: "shop", id: "a", mode: "bridge" });
    const b = await fixture.network.attach({ namespace: "shop", id: "b", mode: "bridge" });
    assert.notEqual(address(a), address(b));
    await run(...inside(a, "busybox", "ping", "-c", "1", "-W", "2", address(b)));
    await using _server = await serve(b, 7000, "from b");
    const client = `require("net").connect(7000, "${address(b)}").pipe(process.stdout)`;
    const { stdout } = await run(...inside(a, process.execPath, "-e", client));
    assert.equal(stdout, "from b");
  });

  test("attach maps a host port, and refuses one that is taken", async () => {
    await using fixture = await makeFixture();
    const ports = [{ hostPort: 18_080, containerPort: 80, protocol: "tcp" as const }];
    const web = await fixture.network.attach({ namespace: "shop", id: "web", mode: "bridge", ports });
    await using _server = await serve(web, 80, "mapped");
    assert.equal(await text(connect(18_080, "127.0.0.1")), "mapped");
    await assert.rejects(
      fixture.network.attach({ namespace: "shop", id: "web2", mode: "bridge", ports }),
      hasStatus("FAILED_PRECONDITION", "HOST_PORT_TAKEN", "18080", "shop/web"),
    );
  });

  test("attach is idempotent, and a different request for the same name is refused", async () => {
    await using fixture = await makeFixture();
    const request = { namespace: "shop", id: "web", mode: "bridge" as const };
    const first = await fixture.network.attach(request);
    assert.deepEqual(await fixture.network.attach(request), first);
    const restarted = await fixture.again();
    assert.deepEqual(await restarted.get("shop", "web"), first);
    assert.deepEqual(await restarted.attach(request), first);
    await restarted.check("shop", "web");
    await assert.rejects(
      restarted.attach({ ...request, mode: "none" }),
      hasStatus("ALREADY_EXISTS", "ATTACHMENT_DIFFERS", "shop/web"),
    );
  });

  test("attach in mode none gives a namespace with loopback only, in mode host none at all", async () => {
    await using fixture = await makeFixture();
    const none = await fixture.network.attach({ namespace: "shop", id: "none", mode: "none" });
    const { stdout } = await run(...inside(none, "ip", "-json", "link"));
    const links = JSON.parse(stdout) as { ifname: string; flags: string[] }[];
    assert.deepEqual(
      links.map(({ ifname }) => ifname),
      ["lo"],
    );
    assert.ok(links[0]!.flags.includes("UP"));
    const host = await fixture.network.attach({ namespace: "shop", id: "host", mode: "host" });
    assert.deepEqual([host.netnsPath, host.addresses], [undefined, []]);
    await fixture.network.detach("shop", "host");
    assert.equal(await fixture.network.get("shop", "host"), undefined);
  });

  test("detach leaves nothing after 30 cycles, and twice is once", async () => {
    await using fixture = await makeFixture();
    const stateDir = join(fixture.directory, "state");
    const cycle = async (index: number): Promise<void> => {
      const [id, ports] = [`web-${index}`, [{ hostPort: 18_200 + index, containerPort: 80, protocol: "tcp" as const }]];
      await fixture.network.attach({ namespace: "shop", id, mode: "bridge", ports });
      await fixture.network.detach("shop", id);
      await fixture.network.detach("shop", id);
    };
    await cycle(30);
    const before = traces(stateDir);
    assert.deepEqual([before.veths, before.leases, before.namespaces], [0, [], []]);
    for (let round = 0; round < 10; round += 1) {
      await Promise.all([0, 1, 2].map((index) => cycle(round * 3 + index)));
    }
    assert.deepEqual(traces(stateDir), before);
  });

  test("attach of ten at once gives ten addresses", async () => {
    await using fixture = await makeFixture();
    const all = await Promise.all(
      Array.from({ length: 10 }, (_, index) => {
        const ports = [{ hostPort: 18_100 + index, containerPort: 80, protocol: "tcp" as const }];
        return fixture.network.attach({ namespace: "shop", id: `web-${index}`, mode: "bridge", ports });
      }),
    );
    assert.equal(new Set(all.map(address)).size, 10);
    await Promise.all(all.map(({ namespace, id }) => fixture.network.detach(namespace, id)));
    const { veths, leases, namespaces } = traces(join(fixture.directory, "state"));
    assert.deepEqual([veths, leases, namespaces], [0, [], []]);
  });

  test("attach in a full subnet names the subnet and leaves nothing of the failure", async () => {
    await using fixture = await makeFixture({ subnet: "10.98.0.0/30" });
    await fixture.network.attach({ namespace: "shop", id: "a", mode: "bridge" });
    const before = traces(join(fixture.directory, "state"));
    await assert.rejects(
      fixture.network.attach({ namespace: "shop", id: "b", mode: "bridge" }),
      hasStatus("RESOURCE_EXHAUSTED", "NETWORK_SUBNET_FULL", "10.98.0.0/30"),
    );
    assert.deepEqual(traces(join(fixture.directory, "state")), before);
    assert.equal(await fixture.network.get("shop", "b"), undefined);
  });

  test("attach passes on what a broken plugin says", async () => {
    const parent = mkdtempSync(join(tmpdir(), "berth-plugins-"));
    try {
      const refuse = `echo '{"cniVersion":"1.0.0","code":100,"msg":"the moon is full","details":"wait a week"}'; exit 1`;
      const firewall = `case $CNI_COMMAND in ADD) ${refuse};; esac`;
      await using fixture = await makeFixture({ binDir: pluginDirectory(parent, { firewall }) });
      await assert.rejects(
        fixture.network.attach({ namespace: "shop", id: "a", mode: "bridge" }),
        hasStatus("FAILED_PRECONDITION", "CNI_FAILED", "firewall ADD", "the moon is full; wait a week"),
      );
      assert.deepEqual(traces(join(fixture.directory, "state")).leases, []);
    } finally {
      rmSync(parent, { recursive: true });
    }
  });

  test("attach cuts off a plugin that hangs, and names a package for what is missing", async () => {
    const parent = mkdtempSync(join(tmpdir(), "berth-plugins-"));
    try {
      const binDir = pluginDirectory(parent, { firewall: "case $CNI_COMMAND in ADD) exec sleep 60;; esac" });
      await using fixture = await makeFixture({ binDir, timeoutMs: 1000 });
      const request = { namespace: "shop", id: "a", mode: "bridge" as const };
      await assert.rejects(fixture.network.attach(request), hasStatus("DEADLINE_EXCEEDED", "CNI_TIMEOUT", "firewall"));
      const without = await fixture.again({ iptablesDirs: [] });
      await assert.rejects(
        without.attach(request),
        hasStatus("FAILED_PRECONDITION", "IPTABLES_MISSING", "apt install iptables"),
      );
      const nowhere = await fixture.again({ binDir: "/nonexistent" });
      await assert.rejects(
        nowhere.attach(request),
        hasStatus("FAILED_PRECONDITION", "CNI_PLUGIN_MISSING", "containernetworking-plugins"),
      );
    } finally {
      rmSync(parent, { recursive: true });
    }
  });

  test("sweep releases what a crash left: a record without anything, half an ADD, a stray namespace file", async () => {
    const parent = mkdtempSync(join(tmpdir(), "berth-plugins-"));
    try {
      await using fixture = await makeFixture();
      const stateDir = join(fixture.directory, "state");
      await fixture.network.attach({ namespace: "shop", id: "warm-up", mode: "bridge" });
      await fixture.network.detach("shop", "warm-up");
      const before = traces(stateDir);
      await fixture.metadata.transact([
        {
          sql: `INSERT INTO network_attachments
            (namespace, id, phase, mode, container_id, netns_path, ports, conflist, created_at_ms)
            VALUES ('shop', 'bare', 'adding', 'none', 'c-bare', ?, '[]', NULL, 1)`,
          params: [join(stateDir, "netns/shop/bare")],
        },
      ]);
      // An agent dies in the middle of ADD: here its last plugin never answers, and nobody undoes what the others did.
      const hang = `case $CNI_COMMAND in ADD) cat > /dev/null; exec sleep 60;; *) exec /usr/lib/cni/portmap;; esac`;
      const dying = await fixture.again({ binDir: pluginDirectory(parent, { portmap: hang }), timeoutMs: 100_000 });
      const ports = [{ hostPort: 18_090, containerPort: 80, protocol: "tcp" as const }];
      const attaching = dying.attach({ namespace: "shop", id: "half", mode: "bridge", ports });
      using _plugin = await childOf(process.pid, "sleep 60", attaching);
      assert.equal(traces(stateDir).veths, 1);

      const restarted = await fixture.again();
      assert.equal(await restarted.get("shop", "half"), undefined);
      assert.equal(await restarted.sweep(() => false), 2);
      assert.deepEqual(traces(stateDir), before);
      assert.equal(existsSync(join(stateDir, "netns/shop/half")), false);
    } finally {
      rmSync(parent, { recursive: true });
    }
  });

  test("attach makes anew what lost its namespace, as after a reboot, and check finds the damage first", async () => {
    await using fixture = await makeFixture();
    const request = { namespace: "shop", id: "web", mode: "bridge" as const };
    const first = await fixture.network.attach(request);
    await run(...inside(first, "ip", "link", "delete", "eth0"));
    await assert.rejects(
      fixture.network.check("shop", "web"),
      hasStatus("FAILED_PRECONDITION", "CNI_FAILED", "bridge"),
    );
    execFileSync("umount", [first.netnsPath!]);
    await assert.rejects(fixture.network.check("shop", "web"), hasStatus("FAILED_PRECONDITION", "NETNS_GONE"));
    const second = await fixture.network.attach(request);
    assert.ok(isMountPoint(second.netnsPath!));
    await fixture.network.check("shop", "web");
  });

  test("attach names every field at fault", async () => {
    await using fixture = await makeFixture();
    const ports = [{ hostPort: 0, containerPort: 80, protocol: "tcp" as const, hostIp: "nowhere" }];
    await assert.rejects(fixture.network.attach({ namespace: "..", id: "a/b", mode: "none", ports }), (error) => {
      assert.ok(error instanceof StatusError);
      const fields = error.violations.map(({ field }) => field);
      assert.deepEqual(fields, ["namespace", "id", "ports", "ports[0].hostPort", "ports[0].hostIp"]);
      return true;
    });
  });
});
