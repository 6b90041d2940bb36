/** Which addresses a server may not send the client to: those that mean this very host, or a cloud's metadata service. */
import { BlockList, isIP } from "node:net";

/** The `code` of the error with which a lookup refuses an address. */
export const REFUSED_ADDRESS = "ERR_BERTH_REFUSED_ADDRESS";

export type AddressKind = "metadata" | "loopback" | "other";

const metadata = new BlockList();
metadata.addSubnet("169.254.0.0", 16, "ipv4");
metadata.addAddress("100.100.100.200", "ipv4");
metadata.addAddress("192.0.0.192", "ipv4");
metadata.addSubnet("fe80::", 10, "ipv6");
metadata.addAddress("fd00:ec2::254", "ipv6");
metadata.addAddress("fd20:ce::254", "ipv6");

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addSubnet("0.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");
loopback.addAddress("::", "ipv6");

/** Of an IP address, IPv4 inside IPv6 included. */
export function addressKind(address: string): AddressKind {
  const plain = embeddedIpv4(address) ?? address;
  const family = isIP(plain) === 6 ? "ipv6" : "ipv4";
  if (metadata.check(plain, family)) return "metadata";
  return loopback.check(plain, family) ? "loopback" : "other";
}

/** Of a URL's host, as far as its text tells; names are looked at once they are resolved. */
export function hostKind(hostname: string): AddressKind {
  const bare = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname.replace(/\.$/, "").toLowerCase();
  if (bare === "localhost" || bare.endsWith(".localhost")) return "loopback";
  return isIP(bare) === 0 ? "other" : addressKind(bare);
}

/** The IPv4 address in `::ffff:…`, `64:ff9b::…` (NAT64) and `::a.b.c.d`. */
function embeddedIpv4(address: string): string | undefined {
  if (isIP(address) !== 6) return undefined;
  // The URL parser writes an address in one way only, with its last 32 bits in hex.
  const normal = new URL(`http://[${address.split("%", 1)[0]!}]`).hostname.slice(1, -1);
  const match = /^(?:::ffff:|64:ff9b::|::)([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(normal);
  if (match === null) return undefined;
  const [high, low] = [Number.parseInt(match[1]!, 16), Number.parseInt(match[2]!, 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}
