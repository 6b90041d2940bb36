/**
 * Where a server may send the client: the target of a redirect, of an upload's location, of a token service.
 *
 * The rule: http and https only; never from HTTPS to plain HTTP; never to a metadata service's or link-local address; to
 * this host's own (loopback) addresses only if the endpoint itself was configured as one. The endpoint's own origin is
 * always fine. Private networks (10/8 and the like) are fine as well: registries and their storage live there. The rule
 * holds for what a name resolves to, too: see {@link guardedLookup}.
 */
import { lookup, type LookupAddress } from "node:dns";
import type { LookupFunction } from "node:net";
import { addressKind, hostKind, REFUSED_ADDRESS, type AddressKind } from "./address.ts";
import { refused, type Subject } from "./errors.ts";

/** @throws FAILED_PRECONDITION `REGISTRY_REDIRECTS` */
export function targetOf(location: string, from: URL, subject: Subject): URL {
  let target: URL;
  try {
    target = new URL(location, from);
  } catch {
    throw refused(subject, "REGISTRY_REDIRECTS", `registry ${from.host} redirects to something that is no URL`);
  }
  const downgrade = from.protocol === "https:" && target.protocol === "http:";
  if (downgrade || !/^https?:$/.test(target.protocol)) {
    throw refused(subject, "REGISTRY_REDIRECTS", `${from.host} redirects from ${from.protocol} to ${target.protocol}`);
  }
  checkTarget(target, subject);
  return target;
}

/** @throws FAILED_PRECONDITION `REGISTRY_REDIRECTS` */
export function checkTarget(target: URL, subject: Subject): void {
  if (target.origin === subject.endpoint.origin) return;
  const kind = hostKind(target.hostname);
  if (allowed(kind, mayLoopBack(subject.endpoint.origin))) return;
  const text = `registry ${subject.endpoint.host} sends us to ${target.host}, ${described(kind)}; refused`;
  throw refused(subject, "REGISTRY_REDIRECTS", text);
}

/** May what an endpoint answers lead to this host's own addresses? */
export function mayLoopBack(origin: string): boolean {
  return hostKind(new URL(origin).hostname) === "loopback";
}

/** Resolves a name and refuses the addresses that {@link checkTarget} would refuse. */
export function guardedLookup(loopBack: boolean): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      if (error !== null) return callback(error, "", 0);
      const wrong = addresses.find(({ address }) => !allowed(addressKind(address), loopBack));
      if (wrong !== undefined) {
        const text = `${hostname} is ${described(addressKind(wrong.address))}; redirects there are refused`;
        return callback(Object.assign(new Error(text), { code: REFUSED_ADDRESS }), "", 0);
      }
      if (options.all === true) return callback(null, addresses);
      const [first] = addresses;
      callback(null, first?.address ?? "", first?.family ?? 0);
    });
  };
}

function allowed(kind: AddressKind, loopBack: boolean): boolean {
  return kind === "other" || (kind === "loopback" && loopBack);
}

function described(kind: AddressKind): string {
  return kind === "metadata" ? "a link-local or metadata address" : "an address of this host itself";
}
