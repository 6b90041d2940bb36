/** `berth label`: sets `key=value`, removes `key-`. A change meanwhile by someone else is an error, not a loss. */
import { UsageError } from "../exit-code.ts";
import { parseTarget } from "../kinds.ts";
import type { Session } from "../session.ts";

export async function label(session: Session, target: readonly string[]): Promise<void> {
  const words = target.filter((word) => word.includes("=") || word.endsWith("-"));
  const { kind, names } = parseTarget(target.filter((word) => !words.includes(word)));
  if (kind.apply === undefined) throw new UsageError(`${kind.plural} are made by the controller and take no labels`);
  if (names.length === 0 || words.length === 0)
    throw new UsageError("usage: berth label KIND NAME KEY=VALUE... KEY-...");
  for (const name of names) {
    const object = await kind.get(session, kind.namespaced ? session.namespace() : "", name);
    const labels = { ...object.metadata!.labels };
    for (const word of words) {
      const at = word.indexOf("=");
      if (at > 0) labels[word.slice(0, at)] = word.slice(at + 1);
      else delete labels[word.slice(0, -1)];
    }
    object.metadata!.labels = labels;
    await kind.apply(session, object, { dryRun: false });
    session.out(`${kind.kind.toLowerCase()}/${name} ${session.paint.green("labelled")}`);
  }
}
