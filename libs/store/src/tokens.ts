/** Bearer tokens, of which only the hash is known here. */
import { uuidv7 } from "@berth/base";
import { and, eq, isNull, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { tokens } from "./schema/index.ts";

export type TokenRow = typeof tokens.$inferSelect;

/** The token of this hash (sha256, hex), unless it was revoked. */
export async function findToken(tx: Tx, hash: string): Promise<TokenRow | undefined> {
  const [row] = await tx
    .select()
    .from(tokens)
    .where(and(eq(tokens.hash, hash), isNull(tokens.revokedAt)));
  return row;
}

export interface NewTokenRow {
  /** The one that the token's text names; default: a new one. */
  readonly id?: string;
  readonly name: string;
  readonly hash: string;
}

export async function insertToken(tx: Tx, token: NewTokenRow): Promise<TokenRow> {
  const [row] = await tx
    .insert(tokens)
    .values({ id: uuidv7(), ...token })
    .returning();
  return row!;
}

/** The store's first token. False when there has been any before; two controllers that start at once make one. */
export async function insertFirstToken(tx: Tx, token: NewTokenRow): Promise<boolean> {
  await tx.execute(sql`lock table tokens in exclusive mode`);
  const done = await tx.execute(sql`
    insert into tokens (id, hash, name) select ${token.id ?? uuidv7()}::uuid, ${token.hash}, ${token.name}
    where not exists (select from tokens)`);
  return done.count === 1;
}

export async function revokeToken(tx: Tx, id: string): Promise<boolean> {
  const rows = await tx
    .update(tokens)
    .set({ revokedAt: new Date() })
    .where(and(eq(tokens.id, id), isNull(tokens.revokedAt)))
    .returning({ id: tokens.id });
  return rows.length === 1;
}

/** Has there been any token, revoked or not? */
export async function hasTokens(tx: Tx): Promise<boolean> {
  return (await tx.select({ id: tokens.id }).from(tokens).limit(1)).length > 0;
}
