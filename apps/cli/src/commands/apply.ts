/** `berth apply`: declarative and idempotent. Everything is checked before the first thing is changed. */
import { equals, type Message } from "@bufbuild/protobuf";
import { hasCode, StatusError } from "@berth/base";
import { parseDurationMs } from "../output/units.ts";
import { loadManifests, type LoadedResource } from "../manifest/load.ts";
import { placeViolations } from "../manifest/document.ts";
import type { Session } from "../session.ts";
import { waitForWorkload } from "../wait.ts";
import { followCampaign } from "./pull.ts";

export interface ApplyOptions {
  readonly filename: readonly string[];
  readonly dryRun?: boolean;
  readonly cause?: string;
  readonly wait?: boolean;
  readonly timeout: string;
}

export async function apply(session: Session, options: ApplyOptions): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const resources = await loadManifests(session, options.filename);
  const made = new Set(resources.filter((r) => r.kind.kind === "Namespace").map((r) => r.object.metadata!.name));
  for (const resource of resources) {
    // A namespace that this very manifest makes is not there yet, so what is in it can only be checked by making it.
    if (!made.has(resource.object.metadata?.namespace ?? "")) await applyOne(session, resource, true);
  }
  for (const resource of resources) {
    const before = await current(session, resource);
    const after =
      options.dryRun === true && made.has(resource.object.metadata?.namespace ?? "")
        ? resource.object
        : await applyOne(session, resource, options.dryRun === true, options.cause);
    const verb = before === undefined ? "created" : sameSpec(resource, before, after) ? "unchanged" : "configured";
    const suffix = options.dryRun === true ? " (dry run)" : "";
    session.out(`${targetName(resource)} ${session.paint.green(verb)}${suffix}`);
    const remark = resource.kind.remark?.(after);
    if (remark !== undefined) session.out(`  ${remark}`);
  }
  if (options.wait === true && options.dryRun !== true) {
    for (const { kind, object } of resources) {
      const { namespace, name } = object.metadata!;
      if (kind.kind === "Workload") await waitForWorkload(session, namespace, name, timeoutMs);
      if (kind.kind === "Campaign") await followCampaign(session, namespace, name, timeoutMs);
    }
  }
}

export function targetName({ kind, object }: LoadedResource): string {
  return `${kind.kind.toLowerCase()}/${object.metadata?.name ?? ""}`;
}

/** What is stored now, if anything. */
export async function current(
  session: Session,
  { kind, object }: LoadedResource,
): Promise<LoadedResource["object"] | undefined> {
  try {
    const { namespace, name } = object.metadata!;
    return (await kind.get(session, namespace, name)) as LoadedResource["object"];
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return undefined;
    throw error;
  }
}

export async function applyOne(
  session: Session,
  resource: LoadedResource,
  dryRun: boolean,
  cause = "",
): Promise<LoadedResource["object"]> {
  const { kind, object, document } = resource;
  try {
    return (await kind.apply!(session, object, { dryRun, cause })) as LoadedResource["object"];
  } catch (error) {
    if (!(error instanceof StatusError) || error.violations.length === 0) throw error;
    throw StatusError.invalid(placeViolations(document, error.violations), "MANIFEST_INVALID");
  }
}

function sameSpec(resource: LoadedResource, before: Message, after: Message): boolean {
  const strip = (message: Message): Message => {
    const copy = { ...message } as LoadedResource["object"] & { status?: unknown };
    delete copy.status;
    return { ...copy, metadata: { ...copy.metadata!, resourceVersion: 0n } } as Message;
  };
  return equals(resource.kind.schema, strip(before), strip(after));
}
