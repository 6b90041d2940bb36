/** Whether a trusted root can be used, for who configures one; sigstore's library is loaded only then. */

/** @throws INVALID_ARGUMENT `TRUST_ROOT_INVALID` */
export async function checkTrustRoot(text: string): Promise<void> {
  const { parseTrustRoot } = await import("./trust-root.ts");
  parseTrustRoot(text);
}
