/** Whether owners can be mapped, found out when first asked: most hosts never ask, and the answer takes milliseconds. */

export interface IdmapSupport {
  usable(): boolean;
  reason(): string | undefined;
}

/** @param problem says why not; called at most once. */
export function idmapSupport(problem: () => string | undefined): IdmapSupport {
  let answer: { readonly reason: string | undefined } | undefined;
  const reason = (): string | undefined => (answer ??= { reason: problem() }).reason;
  return { reason, usable: () => reason() === undefined };
}
