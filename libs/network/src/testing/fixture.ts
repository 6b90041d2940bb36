/** A network on scratch directories, and looks at what it left on the host. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openMetadata, type Metadata } from "@berth/metadata";
import { unmountUnder } from "@berth/linux";
import { createNetwork } from "../cni/network.ts";
import type { CniNetworkOptions } from "../cni/options.ts";
import { networkMigrations } from "../cni/records.ts";
import type { Network } from "../network.ts";

export interface Fixture extends AsyncDisposable {
  readonly directory: string;
  readonly metadata: Metadata;
  readonly network: Network;
  /** Another agent on the same state, as after a restart. */
  again(changes?: Partial<CniNetworkOptions>): Promise<Network>;
}

let bridges = 0;

export async function makeFixture(changes: Partial<CniNetworkOptions> = {}): Promise<Fixture> {
  const directory = mkdtempSync(join(tmpdir(), "berth-network-"));
  const metadata = await openMetadata({ path: join(directory, "metadata.db"), migrations: networkMigrations });
  bridges += 1;
  const options = {
    binDir: "/usr/lib/cni",
    bridge: `btest${bridges}`,
    subnet: `10.99.${bridges}.0/24`,
    stateDir: join(directory, "state"),
    ...changes,
  };
  const network = await createNetwork({ metadata }, options);
  return {
    directory,
    metadata,
    network,
    again: (more = {}) => createNetwork({ metadata }, { ...options, ...more }),
    async [Symbol.asyncDispose]() {
      await using _metadata = metadata;
      try {
        await network.sweep(() => false);
      } finally {
        unmountUnder(directory, { detach: true });
        rmSync(directory, { recursive: true, force: true });
      }
    },
  };
}

/** A plugin directory with the real plugins but for those given here as shell scripts. */
export function pluginDirectory(parent: string, scripts: Readonly<Record<string, string>>): string {
  const directory = join(parent, "plugins");
  mkdirSync(directory);
  for (const name of readdirSync("/usr/lib/cni")) {
    if (!(name in scripts)) symlinkSync(join("/usr/lib/cni", name), join(directory, name));
  }
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(directory, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  return directory;
}

/** Everything that an attachment makes outside its own namespace. */
export function traces(stateDir: string): { veths: number; rules: string; leases: string[]; namespaces: string[] } {
  const links = JSON.parse(execFileSync("ip", ["-json", "link"], { encoding: "utf8" })) as { ifname: string }[];
  const ipam = join(stateDir, "ipam");
  const leases = existsSync(ipam) ? readdirSync(ipam, { recursive: true, encoding: "utf8" }) : [];
  const netns = join(stateDir, "netns");
  return {
    veths: links.filter(({ ifname }) => ifname.startsWith("veth")).length,
    rules: execFileSync("iptables-save", { encoding: "utf8" })
      .replace(/^#.*$/gm, "")
      .replace(/\[\d+:\d+\]/g, ""),
    leases: leases.filter((name) => /\/[\d.]+$/.test(name)),
    namespaces: existsSync(netns) ? readdirSync(netns, { recursive: true, encoding: "utf8" }) : [],
  };
}
