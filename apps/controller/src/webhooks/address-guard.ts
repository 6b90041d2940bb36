/**
 * Which addresses a webhook may reach. A tenant names the URL and the controller calls it from where the fleet's own servers
 * stand, so what is not of the public internet is refused unless the configuration allows it: loopback, link-local (a cloud's
 * metadata), private and shared ranges, multicast, what is reserved, and the controller's own addresses.
 *
 * Invariant: what was looked up is what is connected to. The guard is the connection's own look-up, and hands out only addresses
 * that it has let through: a name that answers differently a moment later gains nothing.
 */
import { lookup as lookUp, type LookupAddress } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { networkInterfaces } from "node:os";

export interface AddressGuard {
  /** Why it may not be called; undefined when it may. */
  refusal(address: string): string | undefined;
  /** For `net.connect` and what is made of it. Answers with {@link RefusedAddress} when nothing is left. */
  readonly lookup: LookupFunction;
}

export interface AddressGuardConfig {
  readonly allowPrivate: boolean;
  /** `address/bits`. */
  readonly allowCidrs: readonly string[];
}

/** Thrown when a name has no address that may be called. */
export class RefusedAddress extends Error {}

/** Everything that the registries of special-purpose addresses (RFC 6890) do not call global. */
const NOT_PUBLIC = [
  "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
  "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
  "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]; // prettier-ignore

/** What they carry behind the prefix is an IPv4 address: NAT64 and 6to4. */
const CARRIES_V4: readonly (readonly [prefix: string, at: number])[] = [
  ["64:ff9b::/96", 12],
  ["2002::/16", 2],
];

type Lookup = (
  hostname: string,
  options: { readonly all: true; readonly family?: number | "IPv4" | "IPv6" },
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export function makeAddressGuard(
  { allowPrivate, allowCidrs }: AddressGuardConfig,
  { lookup = lookUp }: { readonly lookup?: Lookup } = {},
): AddressGuard {
  const [notPublic, allowed] = [listOf(NOT_PUBLIC), listOf(allowCidrs)];
  const refusal = (address: string): string | undefined => {
    const plain = mappedV4(address) ?? address;
    const family = isIP(plain);
    if (family === 0) return "is no address";
    if (allowPrivate || has(allowed, plain)) return undefined;
    const inner = family === 6 ? carriedV4(plain) : undefined;
    if (has(notPublic, plain) || (inner !== undefined && refusal(inner) !== undefined)) {
      return "is not of the public internet";
    }
    return ownAddresses().has(plain) ? "is the controller's own" : undefined;
  };
  return {
    refusal,
    lookup(hostname, options, callback) {
      const { all, family = 0 } = options;
      lookup(hostname, { all: true, family }, (error, found) => {
        if (error) return callback(error, "", 0);
        const open = found.filter(({ address }) => refusal(address) === undefined);
        if (open.length === 0) {
          const [first] = found;
          const why = first === undefined ? "has no address" : `is ${first.address}, which ${refusal(first.address)}`;
          return callback(new RefusedAddress(`${hostname} ${why}`), "", 0);
        }
        return all === true ? callback(null, open) : callback(null, open[0]!.address, open[0]!.family);
      });
    },
  };
}

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = "", bits = ""] = range.split("/");
    list.addSubnet(address, Number(bits), isIP(address) === 6 ? "ipv6" : "ipv4");
  }
  return list;
}

const has = (list: BlockList, address: string): boolean => list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");

/** `::ffff:127.0.0.1`, however it is written. */
function mappedV4(address: string): string | undefined {
  if (isIP(address) !== 6) return undefined;
  const bytes = bytesOf(address);
  const mapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return mapped ? bytes.subarray(12).join(".") : undefined;
}

function carriedV4(address: string): string | undefined {
  const found = CARRIES_V4.find(([prefix]) => has(listOf([prefix]), address));
  return (
    found &&
    bytesOf(address)
      .subarray(found[1], found[1] + 4)
      .join(".")
  );
}

/** The 16 bytes of an IPv6 address; the URL parser writes every form of one alike. */
function bytesOf(address: string): Uint8Array {
  const plain = new URL(`http://[${address.split("%", 1)[0]}]`).hostname.slice(1, -1);
  const [head = "", tail] = plain.split("::");
  const words = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const after = words(tail ?? "");
  const middle = tail === undefined ? [] : Array.from({ length: 8 - words(head).length - after.length }, () => "0");
  const all = [...words(head), ...middle, ...after].map((word) => Number.parseInt(word, 16));
  return Uint8Array.from(all.flatMap((word) => [word >> 8, word & 0xff]));
}

function ownAddresses(): Set<string> {
  return new Set(Object.values(networkInterfaces()).flatMap((all) => all?.map(({ address }) => address) ?? []));
}
