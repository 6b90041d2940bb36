/** The address by which others on the network can name this host: of the interface that has the default route, else the first. */
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";

export function hostAddress(exceptInterface: string): string {
  const all = Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? [])
      .filter(({ family, internal }) => family === "IPv4" && !internal)
      .map(({ address }) => ({ name, address })),
  );
  const usable = all.filter(({ name }) => name !== exceptInterface);
  const route = defaultRouteInterface();
  return (usable.find(({ name }) => name === route) ?? usable[0])?.address ?? "";
}

function defaultRouteInterface(): string | undefined {
  try {
    const lines = readFileSync("/proc/self/net/route", "utf8").split("\n").slice(1);
    return lines.map((line) => line.split("\t")).find(([, destination]) => destination === "00000000")?.[0];
  } catch {
    return undefined;
  }
}
