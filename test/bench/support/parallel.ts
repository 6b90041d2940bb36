/** Bounded parallel work. */

/** Calls `body` `count` times, `parallel` at a time; the first failure ends it. */
export async function inParallel(
  count: number,
  parallel: number,
  body: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await body(next++);
  };
  await Promise.all(Array.from({ length: Math.min(parallel, count) }, worker));
}
