/** `berth ns`: the tenants. */
import { create } from "@bufbuild/protobuf";
import { NamespaceSchema } from "@berth/proto";
import { StatusError } from "@berth/base";
import { readContextFile, writeContextFile } from "../context.ts";
import type { Kind } from "../kind.ts";
import { namespaceKind, refuseExisting } from "../kinds.ts";
import type { Session } from "../session.ts";
import { remove as removeResource } from "./delete.ts";
import { get } from "./get.ts";

export async function list(session: Session, options: { readonly output: string }): Promise<void> {
  await get(session, ["namespaces"], options);
}

export async function create_(
  session: Session,
  name: string,
  options: { readonly description?: string },
): Promise<void> {
  const namespace = create(NamespaceSchema, { metadata: { name }, spec: { description: options.description ?? "" } });
  await refuseExisting(session, namespaceKind as unknown as Kind, "", name);
  await namespaceKind.apply!(session, namespace, { dryRun: false });
  session.out(`namespace/${name} ${session.paint.green("created")}`);
}

export async function remove(
  session: Session,
  name: string,
  options: { readonly wait?: boolean; readonly timeout: string },
): Promise<void> {
  await removeResource(session, ["namespace", name], options);
}

/** Remembered in the file that the context came from. */
export async function use(session: Session, name: string): Promise<void> {
  await namespaceKind.get(session, "", name);
  const { origin, name: contextName } = session.context();
  const file = readContextFile(origin);
  const entry = file.contexts[contextName];
  if (entry === undefined)
    throw new StatusError(
      "FAILED_PRECONDITION",
      `the controller was given by ${origin}: there is no context to change`,
    );
  writeContextFile(origin, { ...file, contexts: { ...file.contexts, [contextName]: { ...entry, namespace: name } } });
  session.out(`context/${contextName} uses namespace ${name}`);
}

export { create_ as create };
