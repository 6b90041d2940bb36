/**
 * Content by the host door. Bytes leave through the main loop, for a client reads them: piece by piece, at its pace, so that
 * they never crowd out other calls (A4).
 */
import { create } from "@bufbuild/protobuf";
import { parseDigest } from "@berth/base";
import type { ContentStore } from "@berth/content";
import {
  AbortIngestResponseSchema,
  ContentService,
  DeleteContentResponseSchema,
  ListContentResponseSchema,
  ListIngestsResponseSchema,
  ReadContentResponseSchema,
  type LabelContentRequest,
  type ListContentRequest,
  type ListContentResponse,
  type ReadContentRequest,
  type ReadContentResponse,
} from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";
import { inBatches } from "./followed.ts";
import { toBlob, toIngest } from "./wire.ts";

const BATCH = 250;

export function contentService(content: ContentStore): Implementation {
  return implement(ContentService, {
    listContent: (request) => list(content, request),
    getContent: async ({ namespace, digest }) => toBlob(await content.info(namespace, parseDigest(digest))),
    readContent: (request) => read(content, request),
    labelContent: async (request) => toBlob(await label(content, request)),
    deleteContent: async ({ namespace, digest }) => {
      await content.delete(namespace, parseDigest(digest));
      return create(DeleteContentResponseSchema);
    },
    listIngests: async ({ namespace, filters }) => {
      const statuses = await content.listStatuses(namespace, filters);
      return create(ListIngestsResponseSchema, { ingests: statuses.map(toIngest) });
    },
    abortIngest: async ({ namespace, ref }) => {
      await content.abort(namespace, ref);
      return create(AbortIngestResponseSchema);
    },
  });
}

async function* list(
  content: ContentStore,
  { namespace, filters }: ListContentRequest,
): AsyncGenerator<ListContentResponse> {
  for await (const blobs of inBatches(content.walk(namespace, filters), BATCH)) {
    yield create(ListContentResponseSchema, { blobs: blobs.map(toBlob) });
  }
}

async function* read(
  content: ContentStore,
  { namespace, digest, offsetBytes, lengthBytes }: ReadContentRequest,
): AsyncGenerator<ReadContentResponse> {
  await using reader = await content.reader(namespace, parseDigest(digest));
  const length = lengthBytes === 0n ? {} : { length: Number(lengthBytes) };
  for await (const data of reader.stream({ offset: Number(offsetBytes), ...length })) {
    yield create(ReadContentResponseSchema, { data });
  }
}

/** Only what is named changes; an empty value takes a label away. */
function label(content: ContentStore, { namespace, digest, labels }: LabelContentRequest) {
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  return content.update(namespace, parseDigest(digest), labels, paths);
}
