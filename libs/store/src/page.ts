/** Lists by page: a token is the sort key of the last item, so pages neither skip nor repeat what stays. */
import { StatusError } from "@berth/base";

export const DEFAULT_PAGE_SIZE = 200;
export const MAX_PAGE_SIZE = 1_000;

export interface PageRequest {
  /** 0 or absent: {@link DEFAULT_PAGE_SIZE}. */
  readonly pageSize?: number;
  readonly pageToken?: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty: this was the last page. */
  readonly nextPageToken: string;
}

export function pageLimit(request: PageRequest): number {
  const size = request.pageSize ?? 0;
  return size <= 0 ? DEFAULT_PAGE_SIZE : Math.min(size, MAX_PAGE_SIZE);
}

/** The key that the last page ended with. @throws INVALID_ARGUMENT `PAGE_TOKEN_INVALID` */
export function pageKey(request: PageRequest, parts: number): readonly string[] | undefined {
  const token = request.pageToken ?? "";
  if (token === "") return undefined;
  try {
    const key: unknown = JSON.parse(Buffer.from(token, "base64url").toString("utf8"));
    if (Array.isArray(key) && key.length === parts && key.every((part) => typeof part === "string")) return key;
  } catch {
    // Not a token of ours: said below.
  }
  throw new StatusError("INVALID_ARGUMENT", "pageToken is not one that a list gave", {
    reason: "PAGE_TOKEN_INVALID",
    violations: [{ field: "pageToken", description: "is not one that a list gave; leave it out to begin anew" }],
  });
}

/** `rows` may hold one more than the limit: then there is a next page. */
export function pageOf<T>(rows: readonly T[], limit: number, keyOf: (row: T) => readonly string[]): Page<T> {
  if (rows.length <= limit) return { items: rows, nextPageToken: "" };
  const items = rows.slice(0, limit);
  return { items, nextPageToken: pageTokenOf(keyOf(items.at(-1)!)) };
}

/** The token of a page that ended with this key. */
export function pageTokenOf(key: readonly string[]): string {
  return Buffer.from(JSON.stringify(key)).toString("base64url");
}
