/** `berth cordon` and `uncordon`. */
import { NodeSpecSchema } from "@berth/proto";
import { create } from "@bufbuild/protobuf";
import { nodeKind } from "../kinds.ts";
import type { Session } from "../session.ts";

export const cordon = (session: Session, name: string): Promise<void> => setCordoned(session, name, true);
export const uncordon = (session: Session, name: string): Promise<void> => setCordoned(session, name, false);

async function setCordoned(session: Session, name: string, cordoned: boolean): Promise<void> {
  const node = await nodeKind.get(session, "", name);
  await nodeKind.apply!(
    session,
    { ...node, spec: create(NodeSpecSchema, { ...node.spec, cordoned }) },
    { dryRun: false },
  );
  session.out(`node/${name} ${session.paint.green(cordoned ? "cordoned" : "uncordoned")}`);
}
