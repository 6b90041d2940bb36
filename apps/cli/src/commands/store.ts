/** `berth store confirm`: the operator's word that a restored store is the truth (D5). */
import { HealthService } from "@berth/proto";
import type { Session } from "../session.ts";

export async function confirm(session: Session, epoch: string): Promise<void> {
  const client = session.client(HealthService);
  await client.confirmStore({ storeEpoch: epoch });
  session.out(`store ${epoch} ${session.paint.green("confirmed")}: nodes may stop what it does not name`);
}
