/** `berth delete`: by name or by manifest; in reverse order of applying, so that owners go last. */
import { setTimeout as delay } from "node:timers/promises";
import { hasCode } from "@berth/base";
import { UsageError } from "../exit-code.ts";
import { within } from "../follow.ts";
import type { Kind } from "../kind.ts";
import { parseTarget } from "../kinds.ts";
import { loadManifests } from "../manifest/load.ts";
import { parseDurationMs } from "../output/units.ts";
import { persistCall } from "../persist.ts";
import type { Session } from "../session.ts";

export interface DeleteOptions {
  readonly filename?: readonly string[];
  readonly ignoreNotFound?: boolean;
  readonly wait?: boolean;
  readonly timeout: string;
}

interface Doomed {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
}

const POLL_MS = 250;

export async function remove(session: Session, target: readonly string[], options: DeleteOptions): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  if (options.filename !== undefined && target.length > 0) {
    throw new UsageError("name what to delete, or give -f FILE; not both");
  }
  const doomed =
    options.filename === undefined ? named(session, target) : await fromManifests(session, options.filename);
  const gone: Doomed[] = [];
  for (const item of doomed) {
    if (item.kind.delete === undefined) {
      throw new UsageError(`${item.kind.plural} are made by the controller: delete or scale their workload`);
    }
    try {
      await item.kind.delete(session, item.namespace, item.name);
      gone.push(item);
      session.out(`${item.kind.kind.toLowerCase()}/${item.name} ${session.paint.yellow("deleted")}`);
    } catch (error) {
      if (options.ignoreNotFound !== true || !hasCode(error, "NOT_FOUND")) throw error;
    }
  }
  if (options.wait !== true) return;
  const deadlineMs = Date.now() + timeoutMs;
  for (const item of gone) await untilGone(session, item, Math.max(0, deadlineMs - Date.now()));
}

function named(session: Session, target: readonly string[]): Doomed[] {
  const { kind, names } = parseTarget(target);
  if (names.length === 0) throw new UsageError(`name what to delete: berth delete ${kind.aliases[0]!} NAME`);
  return names.map((name) => ({ kind, name, namespace: kind.namespaced ? session.namespace() : "" }));
}

async function fromManifests(session: Session, filenames: readonly string[]): Promise<Doomed[]> {
  const resources = await loadManifests(session, filenames);
  return resources.toReversed().map(({ kind, object }) => ({
    kind,
    name: object.metadata!.name,
    namespace: object.metadata!.namespace,
  }));
}

/** Deleting takes as long as the nodes need; a resource is gone when the controller has forgotten it. */
export async function untilGone(session: Session, item: Doomed, timeoutMs: number): Promise<void> {
  const pending = (): string => `${item.kind.kind.toLowerCase()} "${item.name}" is still going away`;
  await within(session, timeoutMs, pending, async (waiting) => {
    while (await persistCall(waiting, () => isThere(waiting, item))) {
      await delay(POLL_MS, undefined, { signal: waiting.signal });
    }
  });
}

async function isThere(session: Session, { kind, namespace, name }: Doomed): Promise<boolean> {
  try {
    await kind.get(session, namespace, name);
    return true;
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return false;
    throw error;
  }
}
