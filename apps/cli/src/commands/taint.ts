/**
 * `berth taint node`: sets `key=value:Effect`, removes `key-` (every effect) or `key:Effect-`. One of the same key and effect
 * is replaced. A change meanwhile by someone else is an error, not a loss.
 */
import { create } from "@bufbuild/protobuf";
import { closest, TAINT_EFFECTS, type Taint } from "@berth/model";
import { NodeSpecSchema, TaintSchema } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { nodeKind, parseTarget } from "../kinds.ts";
import type { Session } from "../session.ts";

interface Removal {
  readonly key: string;
  /** Empty: whatever it is. */
  readonly effect: string;
}

export async function taint(session: Session, target: readonly string[]): Promise<void> {
  const usage = "usage: berth taint node NAME... KEY[=VALUE]:EFFECT... KEY[:EFFECT]-...";
  if (target.length === 0) throw new UsageError(usage);
  const words = target.filter((word) => word.includes(":") || word.endsWith("-"));
  const { kind, names } = parseTarget(target.filter((word) => !words.includes(word)));
  if (kind.kind !== nodeKind.kind)
    throw new UsageError("only nodes have taints: berth taint node NAME KEY=VALUE:EFFECT");
  if (names.length === 0 || words.length === 0) throw new UsageError(usage);
  const removals = words.filter((word) => word.endsWith("-")).map(parseRemoval);
  const added = words.filter((word) => !word.endsWith("-")).map(parseTaint);
  for (const name of names) {
    const node = await nodeKind.get(session, "", name);
    const before = node.spec?.taints ?? [];
    for (const removal of removals) {
      if (before.some((each) => matches(each, removal))) continue;
      throw new UsageError(`node ${name} has no taint ${removal.key}; it has ${listed(before)}`);
    }
    const kept = before.filter((each) => ![...removals, ...added].some((change) => matches(each, change)));
    const spec = create(NodeSpecSchema, { ...node.spec, taints: [] });
    spec.taints = [...kept, ...added.map((each) => create(TaintSchema, each))];
    await nodeKind.apply!(session, { ...node, spec }, { dryRun: false });
    session.out(`node/${name} ${session.paint.green(added.length > 0 ? "tainted" : "untainted")}`);
  }
}

function matches(taint: { readonly key: string; readonly effect: string }, { key, effect }: Removal): boolean {
  return taint.key === key && (effect === "" || taint.effect === effect);
}

function listed(taints: readonly { readonly key: string; readonly value: string; readonly effect: string }[]): string {
  if (taints.length === 0) return "none";
  return taints.map(({ key, value, effect }) => `${key}${value === "" ? "" : `=${value}`}:${effect}`).join(", ");
}

function parseRemoval(word: string): Removal {
  const [key = "", effect = ""] = word.slice(0, -1).split(":");
  return { key, effect: effect === "" ? "" : checkEffect(effect, word) };
}

function parseTaint(word: string): Taint {
  const at = word.lastIndexOf(":");
  const [key = "", value = ""] = word.slice(0, at).split("=");
  return { key, value, effect: checkEffect(word.slice(at + 1), word) as Taint["effect"] };
}

function checkEffect(effect: string, word: string): string {
  if ((TAINT_EFFECTS as readonly string[]).includes(effect)) return effect;
  const near = closest(effect, TAINT_EFFECTS);
  const hint = near === undefined ? `choose one of ${TAINT_EFFECTS.join(", ")}` : `did you mean ${near}?`;
  throw new UsageError(`taint ${JSON.stringify(word)} has no effect ${JSON.stringify(effect)}: ${hint}`);
}
