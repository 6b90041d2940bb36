/**
 * From a token to who bears it, over whatever keeps the hashes.
 *
 * Good answers are kept for `cacheMs`, so that a busy client costs one look-up, and a revocation takes that long at most.
 * Bad ones are never kept: a token works from the moment it exists.
 */
import { StatusError, systemClock, type Clock } from "@berth/base";
import { parseToken, sameHash } from "./token.ts";

export interface StoredToken {
  readonly id: string;
  readonly hash: string;
  readonly name: string;
}

export interface Bearer {
  readonly tokenId: string;
  readonly name: string;
}

export interface AuthenticatorDeps {
  /** The token of this hash, unless it was revoked. */
  findToken(hash: string): Promise<StoredToken | undefined>;
  readonly clock?: Clock;
}

const MAX_CACHED = 10_000;

export class Authenticator {
  readonly #deps: AuthenticatorDeps;
  readonly #clock: Clock;
  readonly #cacheMs: number;
  readonly #known = new Map<string, { readonly stored: StoredToken; readonly untilMs: number }>();

  constructor(deps: AuthenticatorDeps, config: { readonly cacheMs?: number } = {}) {
    this.#deps = deps;
    this.#clock = deps.clock ?? systemClock;
    this.#cacheMs = config.cacheMs ?? 2_000;
  }

  /** @throws UNAUTHENTICATED `TOKEN_MALFORMED`, `TOKEN_UNKNOWN` (also when it was revoked: a stranger learns no more) */
  async authenticate(text: string): Promise<Bearer> {
    const { hash } = parseToken(text);
    const stored = await this.#find(hash);
    if (stored === undefined || !sameHash(stored.hash, hash)) {
      throw new StatusError(
        "UNAUTHENTICATED",
        "the token is not known here, or was revoked; ask an operator for a new one",
        {
          reason: "TOKEN_UNKNOWN",
        },
      );
    }
    return { tokenId: stored.id, name: stored.name };
  }

  async #find(hash: string): Promise<StoredToken | undefined> {
    const now = this.#clock.monotonicMs();
    const known = this.#known.get(hash);
    if (known !== undefined && known.untilMs > now) return known.stored;
    this.#known.delete(hash);
    const stored = await this.#deps.findToken(hash);
    if (stored !== undefined) {
      if (this.#known.size >= MAX_CACHED) this.#known.clear();
      this.#known.set(hash, { stored, untilMs: now + this.#cacheMs });
    }
    return stored;
  }
}
