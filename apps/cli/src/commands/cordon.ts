/** `berth cordon` and `uncordon`, which also ends a drain. */
import { NodeSpecSchema } from "@berth/proto";
import { create } from "@bufbuild/protobuf";
import { nodeKind } from "../kinds.ts";
import type { Session } from "../session.ts";

export const cordon = (session: Session, name: string): Promise<void> => setCordoned(session, name, true);
export const uncordon = (session: Session, name: string): Promise<void> => setCordoned(session, name, false);

async function setCordoned(session: Session, name: string, cordoned: boolean): Promise<void> {
  const node = await nodeKind.get(session, "", name);
  const { drain, ...spec } = node.spec ?? create(NodeSpecSchema);
  const after = create(NodeSpecSchema, { ...spec, cordoned, ...(cordoned && drain !== undefined ? { drain } : {}) });
  await nodeKind.apply!(session, { ...node, spec: after }, { dryRun: false });
  session.out(`node/${name} ${session.paint.green(cordoned ? "cordoned" : "uncordoned")}`);
}
