/**
 * containerd's snapshot service as calls of our {@link Snapshotter}s: what a door or a proxy plugin's socket answers with.
 * It knows no transport; `serve.ts` has one.
 */
import { create, type MessageShape } from "@bufbuild/protobuf";
import { EmptySchema, type Empty } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { anyFilterMatches, parseFilter } from "@berth/model";
import {
  ListSnapshotsResponseSchema,
  MountsResponseSchema,
  PrepareSnapshotResponseSchema,
  type Snapshots,
  StatSnapshotResponseSchema,
  UpdateSnapshotResponseSchema,
  UsageResponseSchema,
  ViewSnapshotResponseSchema,
  type UpdateSnapshotRequest,
} from "@berth/proto/containerd";
import type { SnapshotInfo, Snapshotter } from "../snapshotter.ts";
import { infoToWire, mountsToWire } from "./convert.ts";

type Methods = (typeof Snapshots)["method"];
type In<K extends keyof Methods> = MessageShape<Methods[K]["input"]>;
type Out<K extends keyof Methods> = MessageShape<Methods[K]["output"]>;

export type SnapshotHandlers = {
  readonly [K in Exclude<keyof Methods, "list">]: (request: In<K>, namespace: string) => Promise<Out<K>>;
} & { readonly list: (request: In<"list">, namespace: string) => AsyncIterable<Out<"list">> };

/** Whose snapshotter is meant. @throws NOT_FOUND for a name that there is none of. */
export type ResolveSnapshotter = (namespace: string, snapshotter: string) => Snapshotter | Promise<Snapshotter>;

/** How many records a message of a listing has. */
const LIST_CHUNK = 100;

export function snapshotHandlers(resolve: ResolveSnapshotter): SnapshotHandlers {
  const of = async ({ snapshotter }: { readonly snapshotter: string }, namespace: string): Promise<Snapshotter> =>
    await resolve(namespace, snapshotter);
  const empty = async (done: Promise<unknown>): Promise<Empty> => {
    await done;
    return create(EmptySchema);
  };
  return {
    async prepare(request, namespace) {
      const { key, parent, labels } = request;
      const mounts = await (await of(request, namespace)).prepare(key, parent, { labels });
      return create(PrepareSnapshotResponseSchema, { mounts: mountsToWire(mounts) });
    },
    async view(request, namespace) {
      const { key, parent, labels } = request;
      const mounts = await (await of(request, namespace)).view(key, parent, { labels });
      return create(ViewSnapshotResponseSchema, { mounts: mountsToWire(mounts) });
    },
    async mounts(request, namespace) {
      const mounts = await (await of(request, namespace)).mounts(request.key);
      return create(MountsResponseSchema, { mounts: mountsToWire(mounts) });
    },
    commit(request, namespace) {
      const { name, key, labels, parent } = request;
      const options = { labels, ...(parent === "" ? {} : { parent }) };
      return empty(of(request, namespace).then((snapshotter) => snapshotter.commit(name, key, options)));
    },
    remove: (request, namespace) =>
      empty(of(request, namespace).then((snapshotter) => snapshotter.remove(request.key))),
    async stat(request, namespace) {
      const info = infoToWire(await (await of(request, namespace)).stat(request.key));
      return create(StatSnapshotResponseSchema, { info });
    },
    async update(request, namespace) {
      const snapshotter = await of(request, namespace);
      const key = request.info?.name ?? "";
      const labels = labelsAfter(await snapshotter.stat(key), request);
      return create(UpdateSnapshotResponseSchema, { info: infoToWire(await snapshotter.update(key, labels)) });
    },
    list: (request, namespace) => list(of(request, namespace), request.filters),
    async usage(request, namespace) {
      const { sizeBytes, inodes } = await (await of(request, namespace)).usage(request.key);
      return create(UsageResponseSchema, { size: BigInt(sizeBytes), inodes: BigInt(inodes) });
    },
    cleanup: (request, namespace) => empty(of(request, namespace).then((snapshotter) => snapshotter.cleanup())),
  };
}

/** What an update leaves: all labels given, or only those that the mask names. */
function labelsAfter(before: SnapshotInfo, request: UpdateSnapshotRequest): Record<string, string> {
  const given = request.info?.labels ?? {};
  const paths = request.updateMask?.paths ?? [];
  if (paths.length === 0 || paths.includes("labels")) return given;
  const labels: Record<string, string> = { ...before.labels };
  for (const path of paths) {
    if (!path.startsWith("labels.")) {
      const description = `${JSON.stringify(path)} cannot be changed; only labels can`;
      throw StatusError.invalid([{ field: "update_mask", description }]);
    }
    const name = path.slice("labels.".length);
    const value = given[name];
    // As containerd does: a label that is named and not given goes.
    if (value === undefined || value === "") delete labels[name];
    else labels[name] = value;
  }
  return labels;
}

async function* list(resolving: Promise<Snapshotter>, filters: readonly string[]): AsyncGenerator<Out<"list">> {
  const snapshotter = await resolving;
  const parsed = filters.map(parseFilter);
  let chunk: SnapshotInfo[] = [];
  const flush = (): Out<"list"> => {
    const message = create(ListSnapshotsResponseSchema, { info: chunk.map(infoToWire) });
    chunk = [];
    return message;
  };
  for await (const info of snapshotter.walk()) {
    if (parsed.length > 0 && !anyFilterMatches(parsed, (path) => fieldOf(info, path))) continue;
    if (chunk.push(info) >= LIST_CHUNK) yield flush();
  }
  if (chunk.length > 0) yield flush();
}

/** The fields that containerd's snapshots have for filters. */
function fieldOf(info: SnapshotInfo, path: readonly string[]): string | undefined {
  const [name = "", ...rest] = path;
  if (name === "labels") return info.labels[rest.join(".")];
  const fields: Readonly<Record<string, string>> = { name: info.key, parent: info.parent, kind: info.kind };
  const value = rest.length === 0 ? fields[name] : undefined;
  return value === "" ? undefined : value;
}
