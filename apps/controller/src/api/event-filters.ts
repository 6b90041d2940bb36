/** containerd's filter grammar over events: which fields there are, and what is told of one that cannot be read. */
import { StatusError } from "@berth/base";
import { anyFilterMatches, parseFilter, type Filter } from "@berth/model";
import type { Event } from "@berth/proto";

/** @throws INVALID_ARGUMENT `FIELD_INVALID` */
export function parseFilters(texts: readonly string[], fieldName: string): Filter[] {
  return texts.map((text, index) => {
    try {
      return parseFilter(text);
    } catch (error) {
      throw StatusError.invalid([{ field: `${fieldName}[${index}]`, description: StatusError.from(error).message }]);
    }
  });
}

/** Any of them; none takes everything. */
export function matches(filters: readonly Filter[], event: Event): boolean {
  return anyFilterMatches(filters, (path) => fieldOf(event, path));
}

/** The fields that filters know; `event.x` is an attribute. */
function fieldOf(event: Event, path: readonly string[]): string | undefined {
  const [first, ...rest] = path;
  if (first === "event") return event.attributes[rest.join(".")];
  if (rest.length > 0 || first === undefined || !isFilterable(first)) return undefined;
  return event[first] === "" ? undefined : event[first];
}

const FILTERABLE = ["namespace", "topic", "kind", "name", "node", "severity", "reason"] as const;

function isFilterable(field: string): field is (typeof FILTERABLE)[number] {
  return (FILTERABLE as readonly string[]).includes(field);
}
