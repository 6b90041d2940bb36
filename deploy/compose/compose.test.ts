/**
 * What the compose files name exists: services, volumes, files, variables of the configuration. No Docker runs in these tests; what
 * the Dockerfile does, step by step, is run by `test/e2e/release.test.ts`.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { loadControllerConfig } from "@berth/config";
import { parse } from "yaml";

const HERE = import.meta.dirname;

interface Service {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string; readonly args: Record<string, string> };
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly restart?: string;
  readonly stop_grace_period?: string;
}

interface Compose {
  readonly include?: readonly string[];
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

const read = (file: string): Compose => parse(readFileSync(join(HERE, file), "utf8"), { merge: true }) as Compose;

/** With what it includes. */
function whole(file: string): Compose {
  const { include = [], ...own } = read(file);
  const all = [...include.map(read), own];
  return {
    services: Object.assign({}, ...all.map(({ services }) => services)) as Compose["services"],
    volumes: Object.assign({}, ...all.map(({ volumes }) => volumes)) as Compose["volumes"],
  };
}

const FILES = ["servers.yaml", "control-plane.yaml"];

for (const file of FILES) {
  void test(`${file} depends on services that are there and tell their health, and mounts volumes that are declared`, () => {
    const { services, volumes } = whole(file);
    assert.ok(Object.keys(services).length >= 3);
    for (const [name, service] of Object.entries(services)) {
      assert.equal(service.restart, "unless-stopped", name);
      assert.ok((service.healthcheck?.test.length ?? 0) > 1, `${name} has a health check`);
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        assert.equal(condition, "service_healthy");
        assert.ok(services[other]?.healthcheck !== undefined, `${name} waits for ${other}`);
      }
      for (const volume of service.volumes ?? [])
        assert.ok(Object.hasOwn(volumes, volume.split(":")[0]!), `${name}: ${volume}`);
    }
  });

  void test(`${file} publishes on loopback alone, each port once`, () => {
    const ports = Object.values(whole(file).services).flatMap((service) => service.ports ?? []);
    const published = ports.map((port) => /^127\.0\.0\.1:(\d+):\d+$/.exec(port)?.[1]);
    assert.ok(published.every((port) => port !== undefined), ports.join(" ")); // prettier-ignore
    assert.equal(new Set(published).size, ports.length);
  });
}

void test("control-plane.yaml runs several controllers, whose environment is a configuration for the servers beside them", async () => {
  const { services } = whole("control-plane.yaml");
  const controllers = Object.entries(services).filter(([name]) => name.startsWith("controller-"));
  assert.ok(controllers.length >= 2);
  for (const [name, service] of controllers) {
    const text = JSON.stringify(service.environment).replaceAll(/\$\{BERTH_PASSWORD:\?[^}]*\}/g, "secret");
    const config = await loadControllerConfig({ file: undefined, env: JSON.parse(text) as Record<string, string> });
    for (const url of [config.databaseUrl, config.redisUrl, config.natsUrl])
      assert.ok(new URL(url).hostname in services, `${name}: ${url}`);
    // Each variable is one that the configuration knows: without it, something else results.
    const words = readFileSync(join(HERE, "../../libs/config/src/controller.ts"), "utf8");
    for (const variable of Object.keys(service.environment ?? {})) assert.ok(words.includes(`"${variable}"`), variable);
    const ports = [config.listen.grpc, config.listen.http].map((address) => address.split(":").at(-1));
    assert.deepEqual(service.ports?.map((port) => port.split(":").at(-1)), ports); // prettier-ignore
    assert.ok(Number.parseInt(service.stop_grace_period ?? "", 10) * 1_000 > config.drainGraceMs);
    assert.ok(config.bootstrapTokenFile?.startsWith(`${service.volumes![0]!.split(":")[1]}/`));
  }
});

void test("control-plane.yaml builds by a Dockerfile that is there and takes the argument", () => {
  const { build } = whole("control-plane.yaml").services["controller-a"]!;
  const context = resolve(HERE, build!.context);
  const dockerfile = resolve(context, build!.dockerfile);
  assert.equal(dirname(dockerfile), HERE);
  const text = readFileSync(dockerfile, "utf8");
  for (const name of Object.keys(build!.args)) assert.match(text, new RegExp(`^ARG ${name}$`, "m"));
  assert.ok(existsSync(join(HERE, "../pack/install.sh")));
});
