/** containerd's labels that collection obeys, read from an object's labels (core/metadata/gc.go has the rules). */
import { containerKey, contentKey, imageKey, snapshotKey } from "./keys.ts";

type Labels = Readonly<Record<string, string>>;

export interface LabelEdges {
  /** What the object refers to. */
  readonly refs: readonly string[];
  /** What refers to the object: it lives as long as they do. */
  readonly backRefs: readonly string[];
  readonly root: boolean;
}

const PREFIX = "containerd.io/gc.";
export const ROOT_LABEL = `${PREFIX}root`;
const NONE: LabelEdges = { refs: [], backRefs: [], root: false };

type KeyOf = (namespace: string, value: string) => string;

/** After one of these comes nothing, or a name of the client's own behind `.` or `/`. */
const REFS: readonly (readonly [string, KeyOf])[] = [
  [`${PREFIX}ref.content`, contentKey],
  [`${PREFIX}ref.image`, imageKey],
];
const BACK_REFS: readonly (readonly [string, KeyOf])[] = [
  [`${PREFIX}bref.content`, contentKey],
  [`${PREFIX}bref.image`, imageKey],
  [`${PREFIX}bref.container`, containerKey],
];
/** After these comes the snapshotter, and perhaps a name behind `/`. */
const SNAPSHOT_REF = `${PREFIX}ref.snapshot.`;
const SNAPSHOT_BACK_REF = `${PREFIX}bref.snapshot.`;

export function labelEdges(namespace: string, labels: Labels): LabelEdges {
  let found: { refs: string[]; backRefs: string[]; root: boolean } | undefined;
  for (const label in labels) {
    if (!label.startsWith(PREFIX)) continue;
    found ??= { refs: [], backRefs: [], root: false };
    const value = labels[label]!;
    // As in containerd, the label's presence decides.
    if (label.startsWith(ROOT_LABEL)) found.root = true;
    const ref = keyOf(namespace, label, value, REFS, SNAPSHOT_REF);
    if (ref !== undefined) found.refs.push(ref);
    const backRef = keyOf(namespace, label, value, BACK_REFS, SNAPSHOT_BACK_REF);
    if (backRef !== undefined) found.backRefs.push(backRef);
  }
  return found ?? NONE;
}

/** The time of a `gc.expire` label; undefined without one, and for one that is no time, which is then not obeyed. */
export function expiryOf(labels: Labels): number | undefined {
  const text = labels[`${PREFIX}expire`];
  return text === undefined ? undefined : parseTime(text);
}

const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})$/;

export function parseTime(text: string): number | undefined {
  if (!RFC_3339.test(text)) return undefined;
  const ms = Date.parse(
    text
      .replace(/(\.\d{3})\d+/, "$1")
      .replace(" ", "T")
      .toUpperCase(),
  );
  return Number.isNaN(ms) ? undefined : ms;
}

function keyOf(
  namespace: string,
  label: string,
  value: string,
  plain: readonly (readonly [string, KeyOf])[],
  snapshot: string,
): string | undefined {
  for (const [prefix, make] of plain) {
    if (label.startsWith(prefix) && /^(?:$|[./])/.test(label.slice(prefix.length))) return make(namespace, value);
  }
  if (!label.startsWith(snapshot)) return undefined;
  const snapshotter = label.slice(snapshot.length).split("/", 1)[0]!;
  return snapshotKey(namespace, snapshotter, value);
}
