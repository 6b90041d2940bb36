/** The blobs' half of a verification: hash again, fetch again. */
import { hasCode, StatusError, throwIfAborted, type Digest } from "@berth/base";
import type { Verification } from "@berth/content";
import { parseImageReference, type ImageReference } from "@berth/model";
import type { LayerJob } from "../pull/layer-job.ts";
import { ImageRows } from "../rows.ts";
import type { VerifyProblem, VerifyRun } from "./verify.ts";

const PAGE = 100;
const SOURCE_LABEL = "containerd.io/distribution.source.";

export async function verifyBlobs(run: VerifyRun): Promise<void> {
  const { content, options, found } = run;
  const total = (await content.totals()).blobs;
  for (let after = options.after ?? ""; ;) {
    const page = content.held(after as Digest | "", PAGE);
    for (const { digest } of page) {
      throwIfAborted(options.signal);
      await verifyOne(run, digest);
      found.blobs += 1;
      found.cursor = digest;
      const { blobs: done, readBytes, cursor } = found;
      options.onProgress?.({ phase: "blobs", done, total, readBytes, cursor });
    }
    const last = page.at(-1);
    if (last === undefined) return;
    after = last.digest;
  }
}

async function verifyOne(run: VerifyRun, digest: Digest): Promise<void> {
  const { content, options, found } = run;
  const namespaces = content.namespacesOf(digest);
  let seen: Verification;
  try {
    const { rateBytesPerSecond, signal } = options;
    seen = await content.verify(digest, { rateBytesPerSecond, signal });
  } catch (error) {
    // Deleted since it was listed.
    if (hasCode(error, "NOT_FOUND")) return;
    throwIfAborted(options.signal);
    const base = { kind: "blob", id: digest, namespaces, images: [], what: "cannot be read" } as const;
    await settle(run, digest, base, StatusError.from(error).message);
    return;
  }
  found.readBytes += seen.sizeBytes;
  if (seen.ok) return;
  const what = seen.actual === undefined ? "its file is gone" : `its ${seen.sizeBytes} bytes hash to ${seen.actual}`;
  await settle(run, digest, { kind: "blob", id: digest, namespaces, images: imagesWith(run, digest), what });
}

/** Mends if asked to, and notes how that went. */
async function settle(
  run: VerifyRun,
  digest: Digest,
  problem: Omit<VerifyProblem, "outcome" | "why">,
  seenError?: string,
): Promise<void> {
  const what = seenError === undefined ? problem.what : `${problem.what}: ${seenError}`;
  if (run.options.repair !== true) {
    run.problems.push({ ...problem, what, outcome: "found" });
    return;
  }
  const why = await mend(run, digest, problem.namespaces);
  run.problems.push({
    ...problem,
    what,
    ...(why === undefined ? { outcome: "mended" } : { outcome: "unmended", why }),
  });
}

/** Tries every namespace's sources until one gives the right bytes; otherwise says why none did. */
async function mend(run: VerifyRun, digest: Digest, namespaces: readonly string[]): Promise<string | undefined> {
  const reasons: string[] = [];
  for (const namespace of namespaces) {
    const { labels } = await run.content.info(namespace, digest);
    for (const ref of sourcesOf(labels, digest)) {
      try {
        await fetchAgain(run, namespace, ref, digest);
        return undefined;
      } catch (error) {
        throwIfAborted(run.options.signal);
        const { message } = StatusError.from(error);
        run.log.warn({ digest, namespace, error: message }, "a bad blob could not be fetched again");
        reasons.push(`${namespace}: ${message}`);
      }
    }
  }
  if (reasons.length > 0) return reasons.join("; ");
  return "no label says where it came from; pull or import its image again after deleting it";
}

/** The label's value holds several repositories, separated by commas. */
function sourcesOf(labels: Readonly<Record<string, string>>, digest: Digest): ImageReference[] {
  const refs: ImageReference[] = [];
  for (const [key, value] of Object.entries(labels)) {
    if (!key.startsWith(SOURCE_LABEL)) continue;
    const registry = key.slice(SOURCE_LABEL.length);
    for (const repository of value.split(",").filter(Boolean)) {
      refs.push(parseImageReference(`${registry}/${repository}@${digest}`));
    }
  }
  return refs;
}

async function fetchAgain(run: VerifyRun, namespace: string, ref: ImageReference, digest: Digest): Promise<void> {
  const { content, registry, workers, options } = run;
  const client = registry(namespace);
  const { sizeBytes } = await content.info(namespace, digest);
  await using writer = await content.mender(namespace, digest);
  const job: LayerJob = {
    subject: `blob ${digest} of registry ${ref.registry}`,
    digest,
    sizeBytes,
    source: { kind: "registry", session: client.session(ref), ref, path: writer.dataPath },
  };
  try {
    const { computed } = await workers.run(job, { signal: options.signal });
    await writer.commit({ digest, sizeBytes, ...(computed === undefined ? {} : { computed }) });
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
    // A manifest is not served among the blobs.
    const { bytes } = await client.manifest(ref, options.signal === undefined ? {} : { signal: options.signal });
    await writer.truncate(0);
    await writer.write(bytes);
    await writer.commit({ digest, sizeBytes });
  }
}

/** Images whose target, manifest or config it is; which layers an image has is in its manifest and may be what is bad. */
function imagesWith(run: VerifyRun, digest: Digest): string[] {
  const rows = new ImageRows(run.metadata).all();
  return rows
    .filter(({ record, manifest }) => record.target.digest === digest || manifest === digest)
    .map(({ record }) => `${record.namespace}/${record.name}`);
}
