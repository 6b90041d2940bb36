/** D3, seen from the change feed: an execution that has ended stays as it ended, whatever arrives later. */
import assert from "node:assert/strict";
import type { Fleet } from "@berth/testkit";

interface TaskChange {
  readonly metadata: { readonly name: string; readonly uid: string; readonly generation?: string };
  readonly status?: {
    readonly phase?: string;
    readonly attempt?: number;
    readonly exitCode?: number;
    readonly reason?: string;
    readonly certainty?: string;
  };
}

const ENDED = ["Succeeded", "Failed", "Stopped"];

/** Returns how many executions were seen to end. */
export async function terminalStatesStay({ postgres }: Fleet): Promise<number> {
  const rows = await postgres.query(
    "select object from changes where kind = 'Task' and op <> 'DELETED' order by xid, id",
  );
  const ended = new Map<string, string>();
  for (const { object } of rows) {
    const { metadata, status } = object as TaskChange;
    const execution = `${metadata.name} ${metadata.uid} ${metadata.generation ?? 0}.${status?.attempt ?? 0}`;
    const { phase = "", exitCode = 0, reason = "", certainty = "" } = status ?? {};
    const before = ended.get(execution);
    const now = `${phase} ${exitCode} ${reason} ${certainty}`;
    if (before !== undefined) assert.equal(now, before, `${execution} changed after its end`);
    // An operator's word on a node is the one exception, and none is given here.
    else if (ENDED.includes(phase)) ended.set(execution, now);
  }
  return ended.size;
}
