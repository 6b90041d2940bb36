/** Which orders are taken: a question is answered and does nothing, and an agent that shares its process is only ever cut off. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { DrillOrderSchema } from "@berth/proto";
import { scratchDir } from "@berth/testkit/servers";
import type { OwnProcess } from "../../drill/own-process.ts";
import { DrillCut } from "./drill-cut.ts";
import { DrillOrders } from "./drill-orders.ts";

void test("DrillOrders takes what the agent can heal from, begins it only when told, and refuses the rest", async (t) => {
  const scratch = scratchDir("berth-drill-orders");
  t.after(() => scratch[Symbol.dispose]());
  const done: string[] = [];
  const cut = new DrillCut({ file: join(scratch.dir, "drill.json"), boottimeMs: () => 1_000, bootId: "boot" });
  const ownProcess = {
    refusal: (kind: string) => (kind === "kill" ? "not supervised" : ""),
    pause: async (durationMs: number) => () => void done.push(`pause ${durationMs}`),
    kill: () => () => void done.push("kill"),
  } as unknown as OwnProcess;
  const take = async (order: MessageInitShape<typeof DrillOrderSchema>, own: OwnProcess | undefined = ownProcess) => {
    const orders = new DrillOrders({ cut, ownProcess: own, cutOff: () => void done.push("cut") });
    const { reply, begin } = await orders.take(create(DrillOrderSchema, order));
    return { refused: reply.refused, begin };
  };
  assert.deepEqual(await take({ kind: "pause", check: true }), { refused: "", begin: undefined });
  assert.equal((await take({ kind: "kill", check: true })).refused, "not supervised");
  assert.match((await take({ kind: "pause", durationMs: 600_001n })).refused, /at most 600 s/);
  assert.match((await take({ kind: "reboot" })).refused, /knows no drill of kind reboot/);
  const simulated = new DrillOrders({ cut, ownProcess: undefined, cutOff: () => {} });
  const { reply } = await simulated.take(create(DrillOrderSchema, { kind: "pause", check: true }));
  assert.match(reply.refused, /its agent is simulated .* it can be partitioned, and not paused/);
  const pause = await take({ kind: "pause", durationMs: 5_000n });
  assert.deepEqual(done, []);
  pause.begin!();
  // An order that an older controller gives names no kind.
  (await take({ durationMs: 5_000n })).begin!();
  assert.deepEqual(done, ["pause 5000", "cut"]);
  assert.match((await take({ kind: "kill" })).refused, /another drill is under way/);
});
