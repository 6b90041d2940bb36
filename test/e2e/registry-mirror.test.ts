/**
 * A fleet pulls through a mirror that `berth apply` declared: the mirror is used, also while the controller is away; when it
 * dies, pulls go to the registry itself, unless the resource says otherwise.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { randomBytes } from "node:crypto";
import {
  buildImage,
  eventually,
  pushImage,
  startFleet,
  startRegistry,
  type AgentProcess,
  type RegistryServer,
} from "@berth/testkit";

const BERTHD = resolve(import.meta.dirname, "../../bin/berthd");

/** `berthd` on a node. */
async function berthd(agent: AgentProcess, ...args: string[]): Promise<string> {
  const env = { PATH: process.env["PATH"] ?? "", BERTH_STATE: agent.state };
  const { stdout } = await promisify(execFile)(BERTHD, args, { env, timeout: 60_000 });
  return stdout;
}

function mirrorManifest(registry: string, spec: object): string {
  return JSON.stringify({
    apiVersion: "berth/v1",
    kind: "RegistryMirror",
    metadata: { name: "local" },
    spec: { registry, ...spec },
  });
}

/** An image that nobody has yet. */
async function freshImage(registry: RegistryServer, tag: string): Promise<string> {
  const layers = [{ entries: [{ path: "noise", content: randomBytes(50_000) }] }];
  return (await pushImage(registry, "demo/fresh", tag, buildImage({ layers }))).name;
}

void test(
  "a fleet pulls through a declared mirror, and from the registry itself once that has died",
  { timeout: 180_000 },
  async () => {
    await using fleet = await startFleet({ nodes: 2, plainHttpPorts: 1 });
    const { host } = fleet.registry;
    // The fleet's own registry asks for a password, which this mirror cannot give.
    const [port] = fleet.plainHttpPorts;
    await using origin = await startRegistry({ dir: join(fleet.dir, "origin"), host, port: port! });
    const dir = join(fleet.dir, "mirror");
    await using mirror = await startRegistry({ dir, host, mirrorOf: origin.api });
    const blobs = (): number =>
      readdirSync(join(dir, "data"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith("/data"))
        .length;
    const told = (revision: string): Promise<unknown> =>
      eventually(`every node has revision ${revision}`, async () => {
        const all = await Promise.all(fleet.agents.map((agent) => berthd(agent, "status", "-o", "json")));
        return all.every((text) => (JSON.parse(text) as { mirrorsRevision?: string }).mirrorsRevision === revision);
      });

    const endpoints = [{ url: mirror.api }];
    const applied = await fleet.berth(["apply", "-f", "-"], mirrorManifest(origin.address, { endpoints }));
    assert.match(applied, /registrymirror\/local .*created/i);
    await told("1");
    assert.match(await fleet.berth(["get", "registrymirrors"]), /NAME +REGISTRY.*\nlocal +\S+ +http:\S+ +asked last/);
    assert.match(await fleet.berth(["describe", "registrymirror", "local"]), /\/registrymirrors\/create/);
    assert.equal(blobs(), 0);
    await fleet.berth(["ns", "create", "demo"]);
    await fleet.berth(["-n", "demo", "pull", await freshImage(origin, "v1")]);
    // It stores what it passes on, in its own time.
    await eventually("the mirror was asked", () => blobs() > 0);
    const afterFirst = blobs();

    await fleet.controller.kill();
    const [agent] = fleet.agents;
    await agent!.kill();
    await agent!.start();
    await berthd(agent!, "-n", "demo", "pull", await freshImage(origin, "v2"));
    await eventually("the mirror was asked, after a restart without a controller", () => blobs() > afterFirst);
    await fleet.controller.start();

    await mirror.stop();
    await fleet.berth(["-n", "demo", "pull", await freshImage(origin, "v3")]);

    await fleet.berth(["apply", "-f", "-"], mirrorManifest(origin.address, { endpoints, fallbackToOrigin: false }));
    await told("2");
    const image = await freshImage(origin, "v4");
    await assert.rejects(
      berthd(agent!, "-n", "demo", "pull", image),
      new RegExp(mirror.address.replaceAll(".", "\\.")),
    );
    await fleet.berth(["delete", "registrymirror", "local"]);
    await told("3");
    await berthd(agent!, "-n", "demo", "pull", image);
  },
);
