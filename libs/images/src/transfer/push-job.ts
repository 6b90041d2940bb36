/** Blobs on their way to a registry, in a transfer's thread: some at a time, for small ones wait more than they move. */
import { openSession, type PushOutcome } from "@berth/registry";
import type { JobContext } from "./thread-jobs.ts";
import type { JobResults, PushBlob, TransferJob } from "./thread-protocol.ts";

const AT_ONCE = 3;

export async function pushJob(
  { session, ref, blobs }: Extract<TransferJob, { kind: "push" }>,
  context: JobContext,
): Promise<JobResults["push"]> {
  await using client = openSession(session);
  const abort = new AbortController();
  const signal = AbortSignal.any([context.signal, abort.signal]);
  const outcomes: PushOutcome[] = [];
  const push = async ({ digest, size, path, mountFrom }: PushBlob): Promise<void> => {
    const onProgress = (bytes: number): void => context.tell({ kind: "blob", digest, bytes });
    const mount = mountFrom === undefined ? {} : { mountFrom };
    const outcome = await client.pushBlob(ref, { digest, size }, { path }, { signal, onProgress, ...mount });
    context.tell({ kind: "blob", digest, bytes: size, outcome });
    outcomes.push(outcome);
  };
  const left = blobs.values();
  const lane = async (): Promise<void> => {
    for (const blob of left) await push(blob);
  };
  const lanes = Array.from({ length: AT_ONCE }, () =>
    lane().catch((error: unknown) => {
      abort.abort(error);
      throw error;
    }),
  );
  const settled = await Promise.allSettled(lanes);
  const failure = settled.find((one) => one.status === "rejected");
  if (failure !== undefined) throw abort.signal.reason ?? failure.reason;
  return { outcomes };
}
