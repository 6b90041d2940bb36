/** Files of a running task, out and in. A thread does the work (workers/copy.ts). */
import type { CopyTotals, ServedStream } from "@berth/bus";
import type { StreamCopyIn, StreamCopyOut } from "@berth/proto";
import type { Engine } from "../../../engine/engine.ts";
import { beginCopy } from "../../../workers/copy.ts";
import { firstProcess } from "./first-process.ts";

type Copy = (stream: ServedStream) => Promise<CopyTotals>;

export async function openCopyOut(engine: Pick<Engine, "enter">, { taskUid, path }: StreamCopyOut): Promise<Copy> {
  const process = await firstProcess(engine.enter(taskUid), "files");
  return await beginCopy({ kind: "out", path, ...process });
}

export async function openCopyIn(engine: Pick<Engine, "enter">, { taskUid, path }: StreamCopyIn): Promise<Copy> {
  const process = await firstProcess(engine.enter(taskUid), "files");
  return await beginCopy({ kind: "in", path, ...process });
}
