import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../servers/poll.ts";
import { scratchDir } from "../servers/scratch.ts";
import { createHosts, type Hosts } from "./hosts.ts";
import { ip } from "./ip.ts";
import { freeNetwork } from "./subnet.ts";

const names = ["node-1", "node-2"];

async function twoHosts(dir: string): Promise<Hosts> {
  return await createHosts({ dir, names });
}

/** Does something that listens on the bridge's address answer a host within two seconds? */
async function reaches(hosts: Hosts, from: string): Promise<boolean> {
  const script = `exec 3<>/dev/tcp/${hosts.address}/$0 && read -t 2 line <&3 && echo "$line"`;
  const server = createServer((socket) => void socket.end("hello\n"));
  server.listen(0, hosts.address);
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  try {
    const argv = ["timeout", "2", "bash", "-c", script, String(port)];
    return (await hosts.node(from).exec(argv)).trim() === "hello";
  } catch {
    return false;
  } finally {
    server.close();
  }
}

test("createHosts gives every host an address of its own, and leaves nothing when disposed", async () => {
  using scratch = scratchDir();
  let id: string;
  {
    await using hosts = await twoHosts(join(scratch.dir, "hosts"));
    id = hosts.id;
    const [one, two] = hosts.nodes;
    assert.ok(one !== undefined && two !== undefined);
    assert.notEqual(one.address, two.address);
    assert.match(await one.exec(["ip", "-4", "address"]), new RegExp(one.address.replaceAll(".", "\\.")));
    assert.ok(await reaches(hosts, "node-1"));
    assert.ok(await reaches(hosts, "node-2"));
    assert.match(readFileSync("/proc/self/mountinfo", "utf8"), new RegExp(join(scratch.dir, "hosts")));
  }
  assert.doesNotMatch(await ip("link"), new RegExp(id));
  assert.doesNotMatch(readFileSync("/proc/self/mountinfo", "utf8"), new RegExp(scratch.dir));
});

test("Host.cut takes one host off the network and heal brings it back", async () => {
  using scratch = scratchDir();
  await using hosts = await twoHosts(scratch.dir);
  await hosts.node("node-1").cut();
  assert.equal(await reaches(hosts, "node-1"), false);
  assert.equal(await reaches(hosts, "node-2"), true);
  await hosts.node("node-1").heal();
  // A first packet may still be lost while addresses are resolved anew, and TCP's second comes a second later.
  await eventually("it is back", () => reaches(hosts, "node-1"));
});

test("Host.drop loses one direction, or one peer's port alone, until heal", async () => {
  using scratch = scratchDir();
  await using hosts = await twoHosts(scratch.dir);
  const [one, two] = hosts.nodes;
  await one!.drop({ direction: "in", peer: { address: hosts.address } });
  assert.equal(await reaches(hosts, "node-1"), false);
  assert.equal(await reaches(hosts, "node-2"), true);
  await one!.heal();
  assert.equal(await reaches(hosts, "node-1"), true);
  await one!.drop({ direction: "out", peer: { address: hosts.address, port: 1 } }, { direction: "out", peer: two! });
  assert.equal(await reaches(hosts, "node-1"), true, "another port of it");
  await one!.drop({ direction: "out" });
  assert.equal(await reaches(hosts, "node-1"), false);
  await one!.heal();
  assert.equal(await reaches(hosts, "node-1"), true);
});

test("Host.spawn runs the program in the host's network namespace and in everybody's mount namespace", async () => {
  using scratch = scratchDir();
  await using hosts = await twoHosts(scratch.dir);
  const child = hosts.node("node-1").spawn(["cat"], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin?.write("ready\n");
  assert.ok(child.stdout);
  await once(child.stdout, "data");
  assert.equal(readFileSync(`/proc/${child.pid}/comm`, "utf8").trim(), "cat");
  assert.notEqual(readlinkSync(`/proc/${child.pid}/ns/net`), readlinkSync("/proc/self/ns/net"));
  assert.equal(readlinkSync(`/proc/${child.pid}/ns/mnt`), readlinkSync("/proc/self/ns/mnt"));
  child.stdin?.end();
  await once(child, "exit");
});

test("createHosts takes over hosts that stand, and replaces those that are half gone", async () => {
  using scratch = scratchDir();
  await using first = await twoHosts(scratch.dir);
  // Inode numbers are used again, so a link of our own tells one namespace from its successor.
  const isMarked = async (hosts: Hosts): Promise<boolean> =>
    (await hosts.node("node-2").exec(["ip", "-o", "link"])).includes("marker");
  await first.node("node-2").exec(["ip", "link", "add", "marker", "type", "bridge"]);
  const again = await twoHosts(scratch.dir);
  assert.equal(again.subnet, first.subnet);
  assert.equal(await isMarked(again), true);
  await ip("link", "del", `bv${first.id}0`);
  const mended = await twoHosts(scratch.dir);
  assert.equal(await isMarked(mended), false);
  assert.ok(await reaches(mended, "node-1"));
});

test("createHosts lets several fleets stand at once, each in a network of its own", async () => {
  using scratch = scratchDir();
  const fleets = await Promise.all(["a", "b", "c", "d"].map((name) => twoHosts(join(scratch.dir, name))));
  try {
    assert.equal(new Set(fleets.map((fleet) => fleet.subnet)).size, fleets.length);
    for (const fleet of fleets) assert.ok(await reaches(fleet, "node-2"));
  } finally {
    await Promise.all(fleets.map((fleet) => fleet[Symbol.asyncDispose]()));
  }
});

test("freeNetwork keeps clear of wider and narrower networks in use", () => {
  assert.equal(freeNetwork(["192.0.2.0/24", "default"], 7), "10.213.7");
  assert.equal(freeNetwork(["10.213.7.9"], 7), "10.213.8");
  assert.equal(freeNetwork(["10.213.0.0/17"], 7), "10.213.128");
  assert.throws(() => freeNetwork(["10.0.0.0/8"], 7), /in use/);
});
