/**
 * A process of our own that is measured: started, its libraries loaded, its parts opened, waiting for the word.
 * It ends with its parent.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { StatusError } from "@berth/base";

const CHILDREN = join(import.meta.dirname, "../children");

interface Ask {
  readonly kind: "open" | "run" | "close";
  readonly value?: unknown;
}

interface Answer {
  readonly value?: unknown;
  readonly error?: string;
}

/** What a file of `children/` is opened with, asked, and answers: structured-cloneable all. */
export interface ChildKind<Setup, Request, Result> {
  readonly setup: Setup;
  readonly request: Request;
  readonly result: Result;
}

type AnyKind = ChildKind<unknown, unknown, unknown>;

export interface Child<Kind extends AnyKind> extends AsyncDisposable {
  readonly pid: number;
  run(request: Kind["request"]): Promise<Kind["result"]>;
}

/** Starts `children/<name>.ts`; resolves when it is open. */
export async function startChild<Kind extends AnyKind>(
  name: string,
  setup: Kind["setup"],
  options: { readonly profileDir?: string | undefined; readonly timeoutMs?: number } = {},
): Promise<Child<Kind>> {
  const { profileDir, timeoutMs = 120_000 } = options;
  const profile = profileDir === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}`];
  const child = fork(join(CHILDREN, `${name}.ts`), {
    execArgv: ["--disable-warning=ExperimentalWarning", ...profile],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    serialization: "advanced",
  });
  const exited = once(child, "exit");
  const ended = exited.then(([code, signal]) => {
    throw new StatusError("INTERNAL", `the measured process (${name}) ended with ${String(signal ?? code)}`);
  });
  ended.catch(() => {});
  const ask = async (message: Ask): Promise<unknown> => {
    const late = AbortSignal.timeout(timeoutMs);
    const answered = once(child, "message", { signal: late });
    answered.catch(() => {});
    child.send(message);
    const [answer] = (await Promise.race([answered, ended]).catch((error: unknown) => {
      if (!late.aborted) throw error;
      throw new StatusError("DEADLINE_EXCEEDED", `the measured process (${name}): no answer within ${timeoutMs} ms`);
    })) as [Answer];
    if (answer.error !== undefined)
      throw new StatusError("INTERNAL", `in the measured process (${name}): ${answer.error}`);
    return answer.value;
  };
  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const failed = await ask({ kind: "close" }).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (failed !== undefined) child.kill("SIGKILL");
    else child.disconnect();
    await exited;
    if (failed !== undefined) throw failed;
  };
  try {
    await ask({ kind: "open", value: setup });
  } catch (error) {
    child.kill("SIGKILL");
    await exited;
    throw error;
  }
  return {
    pid: child.pid!,
    run: async (request) => await ask({ kind: "run", value: request }),
    [Symbol.asyncDispose]: () => (closed ??= close()),
  };
}

/** The other end: what a file of `children/` calls, once. */
export function serveChild<Kind extends AnyKind>(
  open: (setup: Kind["setup"]) => Promise<Pick<Child<Kind>, "run"> & AsyncDisposable>,
): void {
  let opened: Awaited<ReturnType<typeof open>> | undefined;
  const answer = async ({ kind, value }: Ask): Promise<unknown> => {
    if (kind === "open") opened = await open(value);
    else if (kind === "run") return await opened!.run(value);
    else await opened?.[Symbol.asyncDispose]();
    return undefined;
  };
  process.on("message", (ask: Ask) => {
    void answer(ask).then(
      (value) => process.send!({ value } satisfies Answer),
      (error: unknown) => process.send!({ error: describe(error) } satisfies Answer),
    );
  });
  // Nothing but the channel keeps it alive: a parent that was killed leaves no child.
  process.once("disconnect", () => setTimeout(() => process.exit(1), 5_000).unref());
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
