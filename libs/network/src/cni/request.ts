/** What an attachment may ask for. */
import { isIP } from "node:net";
import { StatusError, type FieldViolation } from "@berth/base";
import type { AttachRequest, PortMapping } from "../network.ts";
import type { AttachmentRecord } from "./records.ts";

const NAME = /^(?!\.{1,2}$)[a-zA-Z0-9._-]{1,76}$/;

/** Names become path components. @throws INVALID_ARGUMENT with all violations. */
export function checkRequest(request: AttachRequest): void {
  const violations: FieldViolation[] = [];
  const demand = (holds: boolean, field: string, description: string): void => {
    if (!holds) violations.push({ field, description });
  };
  demand(NAME.test(request.namespace), "namespace", "must be 1 to 76 letters, digits, '.', '_' and '-'");
  demand(NAME.test(request.id), "id", "must be 1 to 76 letters, digits, '.', '_' and '-'");
  const ports = request.ports ?? [];
  demand(ports.length === 0 || request.mode === "bridge", "ports", `cannot be mapped in mode ${request.mode}`);
  for (const [index, port] of ports.entries()) {
    const at = `ports[${index}]`;
    demand(isPort(port.hostPort), `${at}.hostPort`, "must be a port from 1 to 65535");
    demand(isPort(port.containerPort), `${at}.containerPort`, "must be a port from 1 to 65535");
    demand(port.protocol === "tcp" || port.protocol === "udp", `${at}.protocol`, "must be tcp or udp");
    demand(port.hostIp === undefined || isIP(port.hostIp) === 4, `${at}.hostIp`, "must be an IPv4 address");
    const clash = ports.findIndex((other) => overlaps(port, other));
    demand(clash >= index, `${at}.hostPort`, `is taken by ports[${clash}], too`);
  }
  if (violations.length > 0) throw StatusError.invalid(violations);
}

/** portmap would install both rules, and only one of the two would ever be reached. */
export function checkPortsFree(request: AttachRequest, others: readonly AttachmentRecord[]): void {
  for (const port of request.ports ?? []) {
    const holder = others.find((other) => other.ports.some((taken) => overlaps(port, taken)));
    if (holder === undefined) continue;
    const text = `host port ${port.hostPort}/${port.protocol} is taken by ${holder.namespace}/${holder.id}`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "HOST_PORT_TAKEN" });
  }
}

function overlaps(a: PortMapping, b: PortMapping): boolean {
  const anyOf = (port: PortMapping): boolean => port.hostIp === undefined || port.hostIp === "0.0.0.0";
  const sameIp = anyOf(a) || anyOf(b) || a.hostIp === b.hostIp;
  return sameIp && a.hostPort === b.hostPort && a.protocol === b.protocol;
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}
