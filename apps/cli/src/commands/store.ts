/** `berth store`: what an operator says of a store that was put back from a copy (D5), and how far it is. */
import { HealthService, type Health } from "@berth/proto";
import type { Session } from "../session.ts";

export async function confirm(session: Session, epoch: string): Promise<void> {
  const client = session.client(HealthService);
  await client.confirmStore({ storeEpoch: epoch });
  session.out(`store ${epoch} ${session.paint.green("confirmed")}: nodes may stop what it does not name`);
}

export async function status(session: Session): Promise<void> {
  show(session, await session.client(HealthService).getHealth({}));
}

/** Of the current epoch, or of the one that was looked at. */
export async function restored(session: Session, { epoch }: { readonly epoch?: string }): Promise<void> {
  const client = session.client(HealthService);
  const storeEpoch = epoch ?? (await client.getHealth({})).storeEpoch;
  show(session, await client.declareStoreRestored({ storeEpoch }));
}

export async function release(session: Session, epoch: string, nodes: readonly string[]): Promise<void> {
  show(session, await session.client(HealthService).releaseStore({ storeEpoch: epoch, nodes: [...nodes] }));
}

function show(session: Session, { storeEpoch, stopsConfirmed, held, waitsFor }: Health): void {
  const { paint } = session;
  const out = (line: string): void => session.out(line);
  out(`store ${storeEpoch}  ${stopsConfirmed ? paint.green("confirmed") : paint.yellow("not confirmed")}`);
  if (!stopsConfirmed) out(`  nodes stop nothing that it does not name until: berth store confirm ${storeEpoch}`);
  if (held) out(`  ${paint.yellow("held")}: no stopThenReplace task is begun yet`);
  for (const wait of waitsFor) out(`  waits: ${wait}`);
}
