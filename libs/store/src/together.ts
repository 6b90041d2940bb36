/**
 * Pieces of work of one transaction that do not wait for each other, sent one behind the other: one trip to Postgres instead of one
 * each.
 *
 * Invariants:
 *  1. It returns, or throws, when all of them have ended: what was sent behind the transaction's ROLLBACK would be carried out
 *     outside of it.
 *  2. Nothing is said of their order. Locks that must be taken in one are taken by one piece, or awaited.
 *
 * @throws what failed first: the others fail because of it
 */
export async function together<const Work extends readonly unknown[]>(
  ...work: Work
): Promise<{ -readonly [Index in keyof Work]: Awaited<Work[Index]> }> {
  let first: { readonly error: unknown } | undefined;
  const noted = work.map(async (piece) => {
    try {
      return await piece;
    } catch (error) {
      first ??= { error };
      return undefined;
    }
  });
  const results = await Promise.all(noted);
  if (first !== undefined) throw first.error;
  return results as { -readonly [Index in keyof Work]: Awaited<Work[Index]> };
}
