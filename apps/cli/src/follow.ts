/**
 * Watches that neither lose nor repeat, across restarts of the controller and cursors that have expired: after such a gap
 * everything is listed again, and only what differs from what was seen is told, what is gone as DELETED.
 */
import { create } from "@bufbuild/protobuf";
import { hasCode, StatusError } from "@berth/base";
import { WatchEventSchema } from "@berth/proto";
import type { Change, Kind, Listing, ListQuery, Resource, Watched } from "./kind.ts";
import { endless, persist } from "./persist.ts";
import type { Session } from "./session.ts";

/** From a listing on, or (without one) from what is there now, told as ADDED. Never ends by itself. */
export async function* follow<T extends Resource>(
  session: Session,
  kind: Kind<T>,
  query: ListQuery,
  from?: Listing<T>,
): AsyncGenerator<Change<T>> {
  const seen = new Map((from?.items ?? []).map((item) => [uidOf(item), item]));
  let cursor = from?.cursor ?? "";
  async function* open(): AsyncGenerator<Change<T>> {
    const present = cursor === "" ? new Set<string>() : undefined;
    for await (const watched of endless(kind.watch!(session, query, cursor))) {
      const { event, object } = watched;
      if (object !== undefined) present?.add(uidOf(object));
      else if (present !== undefined) yield* vanished(seen, present);
      if (event.cursor !== "") cursor = event.cursor;
      const change = changeOf(seen, watched);
      if (change !== undefined) yield change;
    }
  }
  for (;;) {
    try {
      yield* persist(session, open);
    } catch (error) {
      if (!hasCode(error, "OUT_OF_RANGE") || cursor === "") throw error;
      cursor = "";
    }
  }
}

function uidOf(object: Resource): string {
  return object.metadata?.uid ?? "";
}

/** Nothing for what was told before. */
function changeOf<T extends Resource>(seen: Map<string, T>, { event, object }: Watched<T>): Change<T> | undefined {
  if (object === undefined) return undefined;
  const uid = uidOf(object);
  const before = seen.get(uid);
  if (event.type === "DELETED") return seen.delete(uid) ? { event, object } : undefined;
  seen.set(uid, object);
  if (before !== undefined && before.metadata?.resourceVersion === object.metadata?.resourceVersion) return undefined;
  const type = before === undefined ? "ADDED" : "MODIFIED";
  return { event: create(WatchEventSchema, { type, cursor: event.cursor }), object };
}

function* vanished<T>(seen: Map<string, T>, present: ReadonlySet<string>): Generator<Change<T>> {
  for (const [uid, object] of seen) {
    if (present.has(uid)) continue;
    seen.delete(uid);
    yield { event: create(WatchEventSchema, { type: "DELETED" }), object };
  }
}

/** Runs `body` under a deadline of `--timeout`. @throws DEADLINE_EXCEEDED `WAIT_TIMEOUT` with what `pending` says */
export async function within<T>(
  session: Session,
  timeoutMs: number,
  pending: () => string,
  body: (session: Session) => Promise<T>,
): Promise<T> {
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    return await body({ ...session, signal: AbortSignal.any([session.signal, timeout]) });
  } catch (error) {
    if (!timeout.aborted || session.signal.aborted) throw error;
    throw new StatusError("DEADLINE_EXCEEDED", pending(), { reason: "WAIT_TIMEOUT", cause: error });
  }
}
