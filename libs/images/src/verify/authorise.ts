/** The policy's question for an image that is here already: before a container starts, and before an image gets another name. */
import { hasCode, StatusError, type Digest } from "@berth/base";
import { MANIFEST_LIMITS, parseImageReference, parseManifest, type ImageReference } from "@berth/model";
import type { ContentStore } from "@berth/content";
import type { RegistryClient } from "@berth/registry";
import type { VerifiedDocument } from "../pull/verification.ts";
import type { ImageRow } from "../rows.ts";
import type { PolicyVerifier, VerificationSubject } from "./verifier.ts";

const SOURCE_LABEL = "containerd.io/distribution.source.";

export interface AuthoriseDeps {
  readonly verifier: PolicyVerifier | undefined;
  readonly content: ContentStore;
  readonly registry: (namespace: string) => RegistryClient;
}

export function subjectOfRow({ record, manifest }: ImageRow): VerificationSubject {
  const { namespace, name, target } = record;
  return { namespace, image: name, ref: parseImageReference(name), target: target.digest, manifest };
}

/** Costs a look into a table where the policy has not changed since the image was allowed. */
export async function authorise(deps: AuthoriseDeps, row: ImageRow, signal: AbortSignal): Promise<void> {
  const { verifier } = deps;
  const subject = subjectOfRow(row);
  if (verifier === undefined || (await verifier.allows(subject))) return;
  const target = await readDocument(deps.content, subject, subject.target);
  const manifest =
    subject.manifest === subject.target ? target : await readDocument(deps.content, subject, subject.manifest);
  const { namespace, image, ref } = subject;
  const sources = await sourcesOf(deps.content, subject);
  const from = sources.length === 0 ? {} : { sources };
  await verifier.check(
    { namespace, image, ref, target, manifest, registry: deps.registry(namespace), ...from },
    signal,
  );
}

/** The repositories that the image was pulled from, by the labels of its documents. */
async function sourcesOf(content: ContentStore, { namespace, target }: VerificationSubject): Promise<ImageReference[]> {
  const { labels } = await content.info(namespace, target);
  return Object.entries(labels).flatMap(([key, repositories]) => {
    if (!key.startsWith(SOURCE_LABEL)) return [];
    const registry = key.slice(SOURCE_LABEL.length);
    const named = repositories.split(",").filter((repository) => repository !== "");
    return named.map((repository) => ({ registry, repository, tag: undefined, digest: undefined }));
  });
}

async function readDocument(
  content: ContentStore,
  { namespace, image }: VerificationSubject,
  digest: Digest,
): Promise<VerifiedDocument> {
  try {
    const bytes = await content.readAll(namespace, digest, MANIFEST_LIMITS.manifestBytes);
    const { mediaType } = parseManifest(bytes, image);
    return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
    const text = `image "${image}" is incomplete (${digest} is gone), so that it cannot be verified; pull it again`;
    throw new StatusError("NOT_FOUND", text, { reason: "IMAGE_MISSING", cause: error });
  }
}
