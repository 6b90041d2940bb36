/** `berth diff`: what apply would change, as the controller itself would store it. Exit code 1 when something would. */
import { stringify } from "yaml";
import { ExitWith } from "../exit-code.ts";
import { loadManifests, type LoadedResource } from "../manifest/load.ts";
import { diffLines, formatHunks } from "../output/line-diff.ts";
import { toManifest } from "../output/format.ts";
import type { Session } from "../session.ts";
import { applyOne, current, targetName } from "./apply.ts";

export async function diff(session: Session, options: { readonly filename: readonly string[] }): Promise<void> {
  const resources = await loadManifests(session, options.filename);
  const made = new Set(resources.filter((r) => r.kind.kind === "Namespace").map((r) => r.object.metadata!.name));
  let changed = false;
  for (const resource of resources) {
    const before = await current(session, resource);
    const inNewNamespace = made.has(resource.object.metadata?.namespace ?? "") && before === undefined;
    const after = inNewNamespace ? resource.object : await applyOne(session, resource, true);
    const hunks = formatHunks(diffLines(lines(resource, before), lines(resource, after)), session.paint);
    if (hunks === "") continue;
    changed = true;
    session.out(`${session.paint.bold(`${targetName(resource)}${before === undefined ? " (new)" : ""}`)}\n${hunks}`);
  }
  if (changed) throw new ExitWith(1);
}

/** The desired half of a resource: what the controller keeps for itself is no difference. */
function lines({ kind }: LoadedResource, object: LoadedResource["object"] | undefined): string[] {
  if (object === undefined) return [];
  const { apiVersion, metadata, spec } = toManifest(kind.kind, kind.schema, object) as Record<
    string,
    Record<string, unknown>
  >;
  const { name, namespace, labels } = metadata ?? {};
  const desired = { apiVersion, kind: kind.kind, metadata: { name, namespace, labels }, spec };
  return stringify(JSON.parse(JSON.stringify(desired)), { sortMapEntries: true })
    .trimEnd()
    .split("\n");
}
