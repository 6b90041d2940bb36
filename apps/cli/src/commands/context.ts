/** `berth context`: which controllers this user knows. Tokens are never printed and never taken from an argument. */
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { hasCode, StatusError } from "@berth/base";
import { grpcAddress, readContextFile, userConfigPath, writeContextFile } from "../context.ts";
import { UsageError } from "../exit-code.ts";
import { formatTable } from "@berth/base/terminal";
import type { Session } from "../session.ts";

export function list(session: Session): Promise<void> {
  let current: string | undefined;
  let local: { name: string; endpoint: string; origin: string } | undefined;
  try {
    local = session.context();
    current = local.name;
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
  }
  const path = userConfigPath(session.env);
  const rows = Object.entries(readContextFile(path).contexts).map(([name, entry]) => ({
    name,
    ...entry,
    origin: path,
  }));
  if (local !== undefined && local.origin !== path) rows.push(local);
  const columns = [
    { heading: "", cell: (row: (typeof rows)[number]) => (row.name === current ? "*" : "") },
    { heading: "NAME", cell: (row: (typeof rows)[number]) => row.name },
    { heading: "ENDPOINT", cell: (row: (typeof rows)[number]) => row.endpoint },
    { heading: "NAMESPACE", cell: (row: (typeof rows)[number]) => row.namespace ?? "default" },
    { heading: "FROM", cell: (row: (typeof rows)[number]) => row.origin },
  ];
  if (rows.length === 0)
    session.stderr.write("no contexts; add one with berth context set NAME --url URL --token-file FILE\n");
  else session.out(formatTable(columns, rows, { wide: false }));
  return Promise.resolve();
}

export async function set(
  session: Session,
  name: string,
  options: { readonly url?: string; readonly tokenFile?: string; readonly use?: boolean },
): Promise<void> {
  const path = userConfigPath(session.env);
  const file = readContextFile(path);
  const before = file.contexts[name];
  const endpoint = options.url ?? before?.endpoint;
  if (endpoint === undefined) throw new UsageError("a new context needs --url http://host:port");
  grpcAddress(endpoint);
  const token = options.tokenFile === undefined ? before?.token : (await readToken(session, options.tokenFile)).trim();
  const namespace = session.namespaceGiven ?? before?.namespace;
  const entry = {
    endpoint,
    ...(token === undefined ? {} : { token }),
    ...(namespace === undefined ? {} : { namespace }),
  };
  const currentContext = options.use === true ? name : (file.currentContext ?? name);
  writeContextFile(path, { currentContext, contexts: { ...file.contexts, [name]: entry } });
  session.out(`context/${name} ${session.paint.green(before === undefined ? "added" : "changed")} in ${path}`);
}

export function use(session: Session, name: string): Promise<void> {
  const path = userConfigPath(session.env);
  const file = readContextFile(path);
  requireContext(file.contexts, name);
  writeContextFile(path, { ...file, currentContext: name });
  session.out(`now using context ${name}`);
  return Promise.resolve();
}

export function remove(session: Session, name: string): Promise<void> {
  const path = userConfigPath(session.env);
  const { contexts, currentContext } = readContextFile(path);
  requireContext(contexts, name);
  const rest = Object.fromEntries(Object.entries(contexts).filter(([key]) => key !== name));
  writeContextFile(path, {
    contexts: rest,
    ...(currentContext === undefined || currentContext === name ? {} : { currentContext }),
  });
  session.out(`context/${name} ${session.paint.yellow("deleted")}`);
  return Promise.resolve();
}

function requireContext(contexts: Readonly<Record<string, unknown>>, name: string): void {
  if (Object.hasOwn(contexts, name)) return;
  const known = Object.keys(contexts).join(", ") || "none";
  throw new StatusError("NOT_FOUND", `context "${name}" is not in your config (known: ${known})`, {
    reason: "CONTEXT_MISSING",
  });
}

async function readToken(session: Session, path: string): Promise<string> {
  return path === "-" ? await text(session.stdin) : readFileSync(path, "utf8");
}
