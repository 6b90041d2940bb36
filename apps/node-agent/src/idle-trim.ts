/**
 * Gives memory back when the agent has become quiet. V8 keeps what a burst of work (the start above all) has made it take;
 * a full collection that also shrinks the heap takes some 50 ms once, and saves tens of megabytes for as long as the agent
 * idles. Never in the middle of a burst.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Lifetime, systemClock, type Clock } from "@berth/base";

export interface IdleTrimDeps {
  /** Grows with everything the agent does. */
  readonly activity: () => number;
  readonly trim?: () => void;
  readonly clock?: Clock;
}

const FIRST_MS = 2_000;
const QUIET_MS = 20_000;

export function startIdleTrim({ activity, trim = shrinkHeap, clock = systemClock }: IdleTrimDeps): AsyncDisposable {
  const lifetime = new Lifetime();
  lifetime.loop(
    async (signal) => {
      let trimmedAt: number | undefined;
      for (let waitMs = FIRST_MS; ; waitMs = QUIET_MS) {
        const before = activity();
        await clock.sleep(waitMs, signal);
        const now = activity();
        if (now !== before || now === trimmedAt) continue;
        trim();
        trimmedAt = now;
      }
    },
    () => {},
  );
  return lifetime;
}

type Collect = (options: { readonly type: "major"; readonly flavor: "last-resort" }) => void;

let collect: Collect | undefined;

function shrinkHeap(): void {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as Collect;
  }
  collect({ type: "major", flavor: "last-resort" });
}
