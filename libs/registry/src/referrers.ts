/** What refers to a manifest (signatures, SBOMs): the referrers API, and the tag that stands in for it on older servers. */
import { isDigest, type Digest, type StatusError } from "@berth/base";
import { formatImageReference, MANIFEST_LIMITS, type Descriptor, type ImageReference } from "@berth/model";
import { notARegistry } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import type { Attempt, Failover } from "./failover.ts";
import { askManifest, contentType, isHtml, pullScope } from "./pull.ts";
import { targetOf } from "./redirect.ts";
import type { CallOptions } from "./registry.ts";
import { wantsNamespace } from "./routes/endpoint.ts";
import type { Answer } from "./transport.ts";

export interface Referrer extends Descriptor {
  readonly artifactType?: string;
}

export interface ReferrersOptions extends CallOptions {
  readonly artifactType?: string;
}

const MAX_PAGES = 50;
/** Answers of servers that know no referrers. */
const UNKNOWN = new Set([400, 404, 405, 406, 501]);

interface Deps {
  readonly failover: Failover;
  readonly exchange: Exchange;
}

/** Empty when there are none. @throws INVALID_ARGUMENT `REFERRERS_INVALID` for lists without end or sense */
export async function findReferrers(
  { failover, exchange }: Deps,
  ref: ImageReference,
  subject: Digest,
  { artifactType, signal }: ReferrersOptions,
): Promise<readonly Referrer[]> {
  const image = { ...ref, tag: undefined, digest: subject };
  const what = `referrers of ${formatImageReference(image)}`;
  const missing = { reason: "REFERRERS_MISSING" };
  const question = { registry: ref.registry, needs: ["referrers"] as const, what, missing, signal };
  return await failover.run(question, async (attempt) => {
    const all =
      (await listed(exchange, ref, subject, artifactType, attempt)) ?? (await tagged(exchange, ref, subject, attempt));
    // A server need not filter, and one that does may still be wrong.
    return artifactType === undefined ? all : all.filter((referrer) => referrer.artifactType === artifactType);
  });
}

/** By the API, page by page; undefined when the server does not have it. */
async function listed(
  exchange: Exchange,
  { repository }: ImageReference,
  subject: Digest,
  artifactType: string | undefined,
  attempt: Attempt,
): Promise<Referrer[] | undefined> {
  const found: Referrer[] = [];
  const seen = new Set<string>();
  let path: string | URL = `/${repository}/referrers/${subject}`;
  let query: Record<string, string> = artifactType === undefined ? {} : { artifactType };
  for (let page = 1; ; page += 1) {
    const answer: Answer = await exchange.send({ path, query, method: "GET", scope: pullScope(repository) }, attempt);
    if (page === 1 && (UNKNOWN.has(answer.status) || (answer.status === 200 && isHtml(answer)))) {
      await exchange.discard(answer);
      return undefined;
    }
    if (answer.status !== 200) throw await exchange.refusal(answer, attempt);
    found.push(...(await readIndex(exchange, answer, attempt)));
    const next = nextPage(answer, attempt);
    if (next === undefined) return found;
    if (page >= MAX_PAGES || seen.has(next.href)) throw invalid(attempt, "a list that goes round or never ends");
    if (found.length > MANIFEST_LIMITS.indexEntries)
      throw invalid(attempt, `more than ${MANIFEST_LIMITS.indexEntries} entries`);
    seen.add(next.href);
    path = next;
    // A mirror's link may lack the registry's name.
    query = wantsNamespace(attempt.endpoint) ? { ns: attempt.endpoint.registry } : {};
  }
}

/** By the index under the tag `sha256-<hex>`, which clients keep on servers without the API. */
async function tagged(exchange: Exchange, ref: ImageReference, subject: Digest, attempt: Attempt): Promise<Referrer[]> {
  const tag = subject.replace(":", "-").slice(0, 128);
  const answer = await exchange.send(askManifest({ ...ref, tag, digest: undefined }, "GET"), attempt);
  if (answer.status === 404) {
    await exchange.discard(answer);
    return [];
  }
  if (answer.status !== 200) throw await exchange.refusal(answer, attempt);
  return await readIndex(exchange, answer, attempt);
}

async function readIndex(exchange: Exchange, answer: Answer, attempt: Attempt): Promise<Referrer[]> {
  const bytes = await exchange.read(answer, MANIFEST_LIMITS.manifestBytes, attempt);
  if (bytes === undefined) throw invalid(attempt, `more than ${MANIFEST_LIMITS.manifestBytes} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw invalid(attempt, `no JSON (${contentType(answer) ?? "of no type"})`);
  }
  const manifests: unknown = isRecord(value) ? (value["manifests"] ?? []) : undefined;
  if (!Array.isArray(manifests) || manifests.length > MANIFEST_LIMITS.indexEntries) throw invalid(attempt, "no index");
  return manifests.map((entry: unknown, index) => parseReferrer(entry, index, attempt));
}

function parseReferrer(entry: unknown, index: number, attempt: Attempt): Referrer {
  if (!isRecord(entry)) throw invalid(attempt, `an index whose manifests[${index}] is no object`);
  const { mediaType, digest, size, artifactType, annotations } = entry;
  const fine =
    typeof mediaType === "string" &&
    typeof digest === "string" &&
    isDigest(digest) &&
    Number.isSafeInteger(size) &&
    Number(size) >= 0;
  const texts = isRecord(annotations) && Object.values(annotations).every((text) => typeof text === "string");
  if (!fine || (annotations !== undefined && annotations !== null && !texts)) {
    throw invalid(attempt, `an index whose manifests[${index}] is no descriptor`);
  }
  return {
    mediaType,
    digest,
    size: Number(size),
    ...(typeof artifactType === "string" ? { artifactType } : {}),
    ...(texts ? { annotations: annotations as Record<string, string> } : {}),
  };
}

/** RFC 8288: `<url>; rel="next"`. */
function nextPage(answer: Answer, attempt: Attempt): URL | undefined {
  const header = answer.headers["link"];
  const text = Array.isArray(header) ? header.join(", ") : (header ?? "");
  const match = /<([^<>]*)>\s*;(?:[^,<]*;)?\s*rel="?next"?/i.exec(text.slice(0, 8192));
  if (match === null) return undefined;
  const next = targetOf(match[1]!, answer.url, attempt.subject);
  if (next.origin === attempt.endpoint.origin) return next;
  throw invalid(attempt, `a next page on another server, ${next.host}`);
}

function invalid(attempt: Attempt, what: string): StatusError {
  return notARegistry(attempt.subject, `gave ${what} as its list of referrers`, "REFERRERS_INVALID");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
