/** The `ip` and `nsenter` programs, as far as test hosts need them. */
import { execFile } from "node:child_process";
import { StatusError } from "@berth/base";

/** Runs a program to its end and gives its output; a failure says what it said. */
export function run(command: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { encoding: "utf8", maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else {
        const said = stderr.trim() || error.message;
        reject(new StatusError("INTERNAL", `${command} ${args.join(" ")}: ${said}`, { cause: error }));
      }
    });
  });
}

export function ip(...args: string[]): Promise<string> {
  return run("ip", ...args);
}

export function ipIn(netns: string, ...args: string[]): Promise<string> {
  return run("nsenter", `--net=${netns}`, "ip", ...args);
}

interface Link {
  readonly ifname: string;
  readonly ifindex: number;
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

/** Every link of the root namespace with its addresses. */
export async function links(): Promise<readonly Link[]> {
  return JSON.parse(await ip("-json", "-4", "address", "show")) as Link[];
}

/** Every address and every destination that the root namespace knows, as "a.b.c.d[/n]". */
export async function usedNetworks(): Promise<readonly string[]> {
  const addresses = (await links()).flatMap((link) => link.addr_info ?? []);
  const routes = JSON.parse(await ip("-json", "-4", "route", "show", "table", "all")) as { readonly dst?: string }[];
  return [...addresses.map((a) => `${a.local}/${a.prefixlen}`), ...routes.map((route) => route.dst ?? "")];
}
