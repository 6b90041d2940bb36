/** `berth get` and `berth nodes`: lists, single resources, and watches of them. */
import type { Message } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import type { Watermark } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { follow } from "../follow.ts";
import type { Kind, ListQuery } from "../kind.ts";
import { nodeKind, parseTarget } from "../kinds.ts";
import { formatDocuments, formatStream, parseOutput, toManifest, type Output } from "../output/format.ts";
import { formatTime } from "../output/units.ts";
import { createTable, type Column } from "@berth/base/terminal";
import type { Session } from "../session.ts";
import { parseAsOf } from "./arguments.ts";

export interface GetOptions {
  readonly output: string;
  readonly watch?: boolean;
  readonly allNamespaces?: boolean;
  readonly selector?: string;
  readonly workload?: string;
  readonly node?: string;
  readonly asOf?: string;
}

export async function get(session: Session, target: readonly string[], options: GetOptions): Promise<void> {
  const { kind, names } = parseTarget(target);
  await show(session, kind, names, options);
}

export async function nodes(session: Session, options: GetOptions): Promise<void> {
  await show(session, nodeKind as unknown as Kind, [], options);
}

async function show(session: Session, kind: Kind, names: readonly string[], options: GetOptions): Promise<void> {
  const output = parseOutput(options.output);
  const watching = options.watch === true;
  if (watching && kind.watch === undefined) throw new UsageError(`${kind.plural} cannot be watched`);
  if (options.allNamespaces === true && names.length > 0) {
    throw new UsageError("a name is of one namespace: leave -A out, and give -n NAMESPACE");
  }
  const asOf = parseAsOf(options.asOf, Date.now());
  if (asOf !== undefined && watching) throw new UsageError("what was cannot be watched: leave -w or --as-of out");
  if (asOf !== undefined && kind.past !== true) throw new UsageError(`nothing is kept of what ${kind.plural} were`);
  const query: ListQuery = {
    namespace: options.allNamespaces === true ? "-" : kind.namespaced ? session.namespace() : "",
    selector: options.selector ?? "",
    ...(options.workload === undefined ? {} : { workload: options.workload }),
    ...(options.node === undefined ? {} : { node: options.node }),
    ...(asOf === undefined ? {} : { asOf }),
  };
  const print = createPrinter(session, kind, output, {
    single: names.length === 1,
    watching,
    everywhere: kind.namespaced && options.allNamespaces === true,
    now: asOf === undefined ? Date.now : () => timestampMs(asOf),
  });
  if (watching) await watch(session, kind, names, query, print);
  else if (names.length > 0) await showNamed(session, kind, names, query, print);
  else await showAll(session, kind, query, print, output);
}

async function showAll(session: Session, kind: Kind, query: ListQuery, print: Printer, output: Output): Promise<void> {
  const { items, watermark } = await kind.list(session, query);
  if (items.length > 0 || output === "json") {
    await print(items, undefined);
    if (watermark !== undefined && watermark.staleNodes > 0) session.note(staleNote(watermark));
    return;
  }
  session.note(
    `no ${kind.plural}${kind.namespaced && query.namespace !== "-" ? ` in namespace ${query.namespace}` : ""}`,
  );
}

/** The oldest of what was shown: a stale answer never passes for a fresh one. */
function staleNote(watermark: Watermark): string {
  const { node, journalHeadSeq: head, journalStoredSeq: stored, staleNodes } = watermark;
  const why = head > stored ? `${head - stored} entries of its journal are not stored yet` : "it is silent";
  const others = staleNodes > 1 ? `, and ${staleNodes - 1} more nodes are behind` : "";
  return `what is told of node ${node} is as of ${formatTime(watermark.observedUntil)}: ${why}${others}`;
}

/** What is there is shown even where something else is not. */
async function showNamed(
  session: Session,
  kind: Kind,
  names: readonly string[],
  query: ListQuery,
  print: Printer,
): Promise<void> {
  const results = await Promise.allSettled(names.map((name) => kind.get(session, query.namespace, name, query.asOf)));
  const items = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  if (items.length > 0) await print(items, undefined);
  const failures = results.flatMap((result) => (result.status === "rejected" ? [StatusError.from(result.reason)] : []));
  const [first] = failures;
  if (first === undefined) return;
  const message = [...new Set(failures.map((failure) => failure.message))].join("\n       ");
  throw new StatusError(first.code, message, { reason: first.reason, details: first.details, cause: first });
}

async function watch(
  session: Session,
  kind: Kind,
  names: readonly string[],
  query: ListQuery,
  print: Printer,
): Promise<void> {
  const wanted = (object: Item): boolean => names.length === 0 || names.includes(object.metadata?.name ?? "");
  const listing = await kind.list(session, query);
  await print(listing.items.filter(wanted), "ADDED");
  for await (const { event, object } of follow(session, kind, query, listing)) {
    if (wanted(object)) await print([object], event.type);
  }
}

type Item = Awaited<ReturnType<Kind["get"]>>;
/** `change`: how the items came, in a watch. */
type Printer = (items: readonly Item[], change: string | undefined) => Promise<void>;

interface PrinterOptions {
  /** One resource was asked for: its document, not a list of one. */
  readonly single: boolean;
  readonly watching: boolean;
  readonly everywhere: boolean;
  /** Ages count from here. */
  readonly now: () => number;
}

function createPrinter(session: Session, kind: Kind, output: Output, options: PrinterOptions): Printer {
  const { single, watching, everywhere } = options;
  if (output === "json" || output === "yaml") {
    return async (items, change) => {
      const documents = items.map((item) => toManifest(kind.kind, kind.schema, item as unknown as Message));
      if (watching)
        session.out(
          await formatStream(
            output,
            documents.map((object) => ({ change, object })),
          ),
        );
      else session.out(await formatDocuments(output, documents, single));
    };
  }
  const namespace: Column<Item> = { heading: "NAMESPACE", cell: (item) => item.metadata?.namespace ?? "" };
  const columns = kind.columns(options.now);
  const table = createTable(everywhere ? [namespace, ...columns] : columns, {
    wide: output === "wide",
    growing: watching,
  });
  return (items, change) => {
    const text = table.format(items);
    session.out(change === "DELETED" ? `${text.trimEnd()}   (deleted)\n` : text);
    return Promise.resolve();
  };
}
