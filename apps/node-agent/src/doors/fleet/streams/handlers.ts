/** Interactive streams of the fleet door, by kind. Each file opens one kind: what it throws then is the answer to the opener. */
import type { StreamHandlers } from "@berth/bus";
import type { Engine } from "../../../engine/engine.ts";
import { openAttach } from "./attach.ts";
import { openCopyIn, openCopyOut } from "./copy.ts";
import { openExec } from "./exec.ts";
import { openForward } from "./forward.ts";
import { openLogs } from "./logs.ts";

export function streamHandlers(engine: Pick<Engine, "exec" | "log" | "enter" | "output">): StreamHandlers {
  return {
    exec: (open) => openExec(engine, open),
    logs: (open) => openLogs(engine, open),
    attach: (open) => openAttach(engine, open),
    forward: (open) => openForward(engine, open),
    copyOut: (open) => openCopyOut(engine, open),
    copyIn: (open) => openCopyIn(engine, open),
  };
}
