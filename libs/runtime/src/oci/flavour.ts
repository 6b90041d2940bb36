/** What differs between the OCI command-line runtimes, found by asking the binary. */
import { StatusError } from "@berth/base";
import { runRuntime, type RuntimeCommand } from "./command.ts";

export type Flavour = "runc" | "crun" | "runsc";

export interface RuntimeIdentity {
  readonly flavour: Flavour;
  readonly version: string;
}

/** @throws FAILED_PRECONDITION `RUNTIME_MISSING`, or `RUNTIME_UNKNOWN` for a program that is none of ours. */
export async function identifyRuntime(command: RuntimeCommand): Promise<RuntimeIdentity> {
  const plain = { ...command, globalArgs: [] };
  const outcome = await runRuntime(plain, "/nonexistent", ["--version"]);
  const match = /^(runc|crun|runsc) version (?:release-)?(\S+)/m.exec(outcome.stdout);
  if (match !== null) return { flavour: match[1] as Flavour, version: match[2]! };
  throw new StatusError(
    "FAILED_PRECONDITION",
    `runtime "${command.name}": ${command.binary} is no runc, crun or runsc`,
    {
      reason: "RUNTIME_UNKNOWN",
    },
  );
}

/** Is the recorded pid the container's first process itself? (gVisor's is its sandbox, which only runsc may signal.) */
export function hasNativeInit(flavour: Flavour): boolean {
  switch (flavour) {
    case "runc":
    case "crun":
      return true;
    case "runsc":
      return false;
  }
}

/**
 * Does `exec` carry a new size of our terminal over to the one in the container when it gets SIGWINCH? crun 1.8 only passes
 * the signal on (wait_for_process in container.c).
 */
export function carriesWindowSize(flavour: Flavour): boolean {
  return flavour !== "crun";
}
