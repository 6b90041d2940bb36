/** `berth events`: what happened, oldest first. Filters use containerd's grammar; the controller evaluates them. */
import { hasCode } from "@berth/base";
import { EventSchema, EventService, type Event } from "@berth/proto";
import { eventColumns } from "../output/columns.ts";
import { formatDocuments, formatStream, parseOutput, toManifest } from "../output/format.ts";
import { createTable, type Column } from "@berth/base/terminal";
import { UsageError } from "../exit-code.ts";
import { endless, persist, persistCall } from "../persist.ts";
import type { Session } from "../session.ts";
import { parseAsOf, parseCount } from "./arguments.ts";

export interface EventsOptions {
  readonly follow?: boolean;
  readonly filter?: readonly string[];
  readonly tail: string;
  readonly allNamespaces?: boolean;
  readonly asOf?: string;
  readonly output: string;
}

export async function events(session: Session, options: EventsOptions): Promise<void> {
  const output = parseOutput(options.output);
  const namespace = options.allNamespaces === true ? "-" : session.namespace();
  const query = { namespace, filters: [...(options.filter ?? [])] };
  const tail = parseCount(options.tail, "--tail");
  const follow = options.follow === true;
  const asOf = parseAsOf(options.asOf, Date.now());
  if (asOf !== undefined && follow) throw new UsageError("what was cannot be followed: leave -f or --as-of out");
  const columns = namespace === "-" ? [NAMESPACE, ...eventColumns] : eventColumns;
  const table = createTable(columns, { wide: output === "wide", growing: follow });
  const print = async (items: readonly Event[]): Promise<void> => {
    if (output === "table" || output === "wide") return session.out(table.format(items));
    const documents = items.map((item) => toManifest("Event", EventSchema, item));
    session.out(await (follow ? formatStream(output, documents) : formatDocuments(output, documents, false)));
  };
  // Asking for none would be asking for pages; one gives the place to follow from.
  const { items, cursor } = await session.client(EventService).listEvents({
    ...query,
    tail: Math.max(1, tail),
    ...(asOf === undefined ? {} : { asOf }),
  });
  const shown = tail === 0 ? [] : items;
  if (shown.length === 0 && !follow && output !== "json") return session.note("no events");
  await print(shown);
  if (follow) for await (const item of eventsAfter(session, query, items, cursor)) await print([item]);
}

const NAMESPACE: Column<Event> = { heading: "NAMESPACE", cell: (event) => event.namespace || "-" };
/** How far back is looked when the place to go on from is no longer known. */
const LOOK_BACK = 1_000;

async function* eventsAfter(
  session: Session,
  query: { readonly namespace: string; readonly filters: string[] },
  shown: readonly Event[],
  cursor: string,
): AsyncGenerator<Event> {
  const client = session.client(EventService);
  const seen = new Set(shown.map((item) => item.id));
  let place = cursor;
  async function* open(): AsyncGenerator<Event> {
    const stream = client.watchEvents({ ...query, cursor: place }, { signal: session.signal });
    for await (const { event, item } of endless(stream)) {
      if (event !== undefined && event.cursor !== "") place = event.cursor;
      if (item !== undefined) yield item;
    }
  }
  for (;;) {
    try {
      for await (const item of persist(session, open)) {
        remember(seen, item.id);
        yield item;
      }
    } catch (error) {
      if (!hasCode(error, "OUT_OF_RANGE")) throw error;
      session.note(`${error.message}; looking back`);
      const missed = await persistCall(session, () => client.listEvents({ ...query, tail: LOOK_BACK }));
      place = missed.cursor;
      for (const item of missed.items) if (remember(seen, item.id)) yield item;
    }
  }
}

/** True when it is new. As many are kept as can come again. */
function remember(seen: Set<string>, id: string): boolean {
  if (seen.has(id)) return false;
  seen.add(id);
  const [oldest] = seen;
  if (seen.size > 2 * LOOK_BACK && oldest !== undefined) seen.delete(oldest);
  return true;
}
