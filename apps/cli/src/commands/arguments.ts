/** Small argument forms that several commands take. */
import { UsageError } from "../exit-code.ts";

/** `key=value…` to a map. */
export function parseAssignments(items: readonly string[], option: string): Record<string, string> {
  const result: Record<string, string> = {};
  for (const item of items) {
    const at = item.indexOf("=");
    if (at <= 0) throw new UsageError(`${option} ${JSON.stringify(item)} is not of the form key=value`);
    result[item.slice(0, at)] = item.slice(at + 1);
  }
  return result;
}

export function parseCount(text: string, option: string): number {
  if (!/^\d{1,7}$/.test(text)) throw new UsageError(`${option} ${JSON.stringify(text)} is not a whole number`);
  return Number(text);
}
