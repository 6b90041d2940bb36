/** The checks of a route's parts, each wrong field named. */
import { X509Certificate } from "node:crypto";
import type { FieldViolation } from "@berth/base";
import { ENDPOINT_CAPABILITIES } from "./route.ts";

const ENDPOINT_FIELDS = [
  "url",
  "overridePath",
  "capabilities",
  "ca",
  "client",
  "skipVerify",
  "headers",
  "dialTimeoutMs",
];
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;
/** Set by the connection itself. */
const FORBIDDEN_HEADERS = new Set([
  "host",
  "connection",
  "content-length",
  "transfer-encoding",
  "upgrade",
  "te",
  "trailer",
  "expect",
  "keep-alive",
  "range",
]);
const MAX_DIAL_MS = 3_600_000;

export class Problems {
  readonly list: FieldViolation[] = [];
  readonly #prefix: string;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  add(field: string, description: string): this {
    const full = [this.#prefix, field].filter((part) => part !== "").join(".");
    this.list.push({ field: full, description });
    return this;
  }

  unknownFields(field: string, value: Readonly<Record<string, unknown>>, known: readonly string[]): void {
    for (const name of Object.keys(value)) {
      if (known.includes(name)) continue;
      this.add(field === "" ? name : `${field}.${name}`, `is not a field; there are ${known.join(", ")}`);
    }
  }

  optional(field: string, value: unknown, type: "boolean" | "string"): void {
    if (value !== undefined && typeof value !== type) this.add(field, `is not a ${type}`);
  }

  optionalMs(field: string, value: unknown, max: number): void {
    if (value === undefined) return;
    if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > max) {
      this.add(field, `is not a whole number of milliseconds from 1 to ${max}`);
    }
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param needsUrl false for the origin, which has its registry's name */
export function endpointProblems(problems: Problems, field: string, value: unknown, needsUrl = true): void {
  if (!isRecord(value)) return void problems.add(field, "is not an object");
  problems.unknownFields(field, value, ENDPOINT_FIELDS);
  const problem = value["url"] === undefined && !needsUrl ? undefined : urlProblem(value["url"]);
  if (problem !== undefined) problems.add(`${field}.url`, problem);
  problems.optional(`${field}.overridePath`, value["overridePath"], "boolean");
  problems.optional(`${field}.skipVerify`, value["skipVerify"], "boolean");
  problems.optionalMs(`${field}.dialTimeoutMs`, value["dialTimeoutMs"], MAX_DIAL_MS);
  eachOf(problems, `${field}.capabilities`, value["capabilities"], capabilityProblem);
  eachOf(problems, `${field}.ca`, value["ca"], certificateProblem);
  eachOf(problems, `${field}.client`, value["client"], (pair) =>
    isRecord(pair) ? (certificateProblem(pair["cert"]) ?? keyProblem(pair["key"])) : "is not a pair of cert and key",
  );
  const { headers } = value;
  if (headers === undefined) return;
  if (!isRecord(headers)) return void problems.add(`${field}.headers`, "is not an object");
  for (const [name, values] of Object.entries(headers)) {
    const wrong = headerProblem(name, values);
    if (wrong !== undefined) problems.add(`${field}.headers.${name}`, wrong);
  }
}

export function urlProblem(value: unknown): string | undefined {
  if (typeof value !== "string" || !URL.canParse(value)) return "is not a URL such as https://mirror.example";
  const url = new URL(value);
  if (url.protocol !== "https:" && url.protocol !== "http:") return "is not an http or https URL";
  if (url.username !== "" || url.password !== "") return "has credentials in it; configure them by host instead";
  if (url.search !== "" || url.hash !== "") return "has a query or a fragment; give scheme, host and path only";
  return url.hostname === "" ? "names no host" : undefined;
}

export function capabilityProblem(value: unknown): string | undefined {
  const known: readonly unknown[] = ENDPOINT_CAPABILITIES;
  return known.includes(value) ? undefined : `is not one of ${ENDPOINT_CAPABILITIES.join(", ")}`;
}

/** @param values a list of texts */
export function headerProblem(name: string, values: unknown): string | undefined {
  if (!HEADER_NAME.test(name)) return "is not a header's name";
  if (FORBIDDEN_HEADERS.has(name.toLowerCase())) return "is set by the client itself and cannot be configured";
  const texts: unknown[] = Array.isArray(values) ? values : [undefined];
  if (!texts.every((text) => typeof text === "string")) return "is not a list of strings";
  return texts.every((text) => HEADER_VALUE.test(text)) ? undefined : "has characters that headers cannot have";
}

export function certificateProblem(value: unknown): string | undefined {
  if (typeof value !== "string" || !value.includes("-----BEGIN")) return "is not a PEM certificate";
  try {
    return void new X509Certificate(value);
  } catch {
    return "is not a PEM certificate that can be read";
  }
}

export function keyProblem(value: unknown): string | undefined {
  const fine = typeof value === "string" && /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(value);
  return fine ? undefined : "has no PEM private key";
}

function eachOf(
  problems: Problems,
  field: string,
  value: unknown,
  problemOf: (entry: unknown) => string | undefined,
): void {
  if (value === undefined) return;
  if (!Array.isArray(value)) return void problems.add(field, "is not a list");
  value.forEach((entry: unknown, index) => {
    const problem = problemOf(entry);
    if (problem !== undefined) problems.add(`${field}[${index}]`, problem);
  });
}
