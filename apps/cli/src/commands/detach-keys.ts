/** The keys that leave a task running: a sequence in what is typed, as `ctrl-p,ctrl-q`. */
import { UsageError } from "../exit-code.ts";

/** @throws UsageError */
export function parseDetachKeys(text: string): readonly number[] {
  const keys = text.split(",").map((key) => {
    const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key);
    if (control !== null) return control[1]!.toUpperCase().charCodeAt(0) & 0x1f;
    return key.length === 1 && key.charCodeAt(0) < 0x80 ? key.charCodeAt(0) : -1;
  });
  if (keys.includes(-1)) {
    throw new UsageError(`--detach-keys ${JSON.stringify(text)} is not a list such as ctrl-p,ctrl-q or ctrl-],x`);
  }
  return keys;
}

/** Passes on what is typed, keeps a beginning of the sequence until it is none, and gives undefined once it is complete. */
export function createDetachFilter(
  keys: readonly number[],
  onDetach: () => void,
): (typed: Buffer) => Buffer | undefined {
  let matched = 0;
  return (typed) => {
    const passed: number[] = [];
    for (const key of typed) {
      if (key !== keys[matched]) {
        passed.push(...keys.slice(0, matched));
        matched = 0;
      }
      if (key === keys[matched]) matched += 1;
      else passed.push(key);
      if (matched === keys.length) {
        onDetach();
        return undefined;
      }
    }
    return Buffer.from(passed);
  };
}
