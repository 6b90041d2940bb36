/**
 * Applies a group of transactions with one fsync.
 *
 * One BEGIN, the members, one COMMIT, and only then the answers. As long as all goes well, that is all; when a member fails, the
 * group is undone and applied again with a SAVEPOINT for each member. Invariants:
 *  1. A member is all or nothing; one that fails is undone alone.
 *  2. No answer before COMMIT has returned; if COMMIT fails, every member fails and nothing of the group remains.
 *  3. Some errors make SQLite undo the whole group by itself (disk full, out of memory). Then the others are applied
 *     again, each in a transaction of its own, in the same order: a neighbour never pays for them.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { FailureError, failureOf, type Failure } from "./failure.ts";
import type { Statement, StatementResult } from "./metadata.ts";
import { narrowRows, StatementCache } from "./sqlite.ts";
import type { Answer, Member } from "./writer.ts";

export type { Member } from "./writer.ts";

export interface GroupOutcome {
  readonly answers: readonly Answer[];
  /** How many members, from the first, were taken; the rest waits for the next group. */
  readonly taken: number;
  readonly commits: number;
}

/** Bounds on a group, so that the first member does not wait long for its answer. */
const MAX_MEMBERS = 1_024;
const MAX_GROUP_MS = 25;
const CACHED_STATEMENTS = 512;

/** It gives rows, or changes some, or both. */
type Kind = "reads" | "changes" | "returns";

const TRANSACTION_CONTROL = /^\s*(begin|commit|end|rollback|savepoint|release|attach|detach|vacuum|pragma)\b/i;
const ONLY_READS = /^\s*(select|values|explain)\b/i;

/** Thrown inside when SQLite itself has undone the whole group while `member` ran. */
class GroupUndone extends Error {
  readonly member: Member;
  readonly failure: Failure;

  constructor(member: Member, failure: Failure) {
    super(failure.message);
    this.member = member;
    this.failure = failure;
  }
}

export class GroupCommit {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #statements: StatementCache;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #savepoint: StatementSync;
  readonly #release: StatementSync;
  /** What is known of a prepared statement. */
  readonly #kinds = new WeakMap<StatementSync, Kind>();

  constructor(db: DatabaseSync, path: string) {
    this.#db = db;
    this.#path = path;
    this.#statements = new StatementCache(db, CACHED_STATEMENTS);
    this.#begin = db.prepare("BEGIN IMMEDIATE");
    this.#commit = db.prepare("COMMIT");
    this.#savepoint = db.prepare("SAVEPOINT member");
    this.#release = db.prepare("RELEASE member");
  }

  /** Applies as many members as the bounds allow, at least one. */
  apply(queue: readonly Member[]): GroupOutcome {
    const members = queue.slice(0, MAX_MEMBERS);
    try {
      const answers = this.#commitTrusting(members) ?? this.#commitTogether(members);
      return { answers, taken: answers.length, commits: 1 };
    } catch (error) {
      if (!(error instanceof GroupUndone)) throw error;
      return { ...this.#commitAlone(members, error), taken: members.length };
    }
  }

  /** Undefined when a member has failed: nothing has happened. */
  #commitTrusting(members: readonly Member[]): Answer[] | undefined {
    const answers: Answer[] = [];
    const startMs = performance.now();
    try {
      this.#begin.run();
      for (const { id, statements } of members) {
        answers.push({ id, results: statements.map((statement) => this.#run(statement)) });
        if (performance.now() - startMs > MAX_GROUP_MS) break;
      }
      this.#commit.run();
      return answers;
    } catch {
      this.#rollback();
      return undefined;
    }
  }

  #commitTogether(members: readonly Member[]): Answer[] {
    const answers: Answer[] = [];
    const startMs = performance.now();
    try {
      this.#begin.run();
      for (const member of members) {
        answers.push(this.#applyMember(member));
        if (performance.now() - startMs > MAX_GROUP_MS) break;
      }
      this.#commit.run();
      return answers;
    } catch (error) {
      this.#rollback();
      if (error instanceof GroupUndone) throw error;
      const failure = failureOf(error, this.#path);
      const failed = answers.length === 0 ? members : members.slice(0, answers.length);
      return failed.map(({ id }) => ({ id, failure }));
    }
  }

  #commitAlone(members: readonly Member[], undone: GroupUndone): { answers: Answer[]; commits: number } {
    const answers = members.map((member) => {
      if (member === undone.member) return { id: member.id, failure: undone.failure };
      try {
        return this.#commitTogether([member])[0]!;
      } catch (error) {
        if (!(error instanceof GroupUndone)) throw error;
        return { id: member.id, failure: error.failure };
      }
    });
    return { answers, commits: members.length - 1 };
  }

  #applyMember(member: Member): Answer {
    this.#savepoint.run();
    try {
      const results = member.statements.map((statement) => this.#run(statement));
      this.#release.run();
      return { id: member.id, results };
    } catch (error) {
      const failure = failureOf(error, this.#path);
      if (!this.#db.isTransaction) throw new GroupUndone(member, failure);
      this.#db.exec("ROLLBACK TO member");
      this.#db.exec("RELEASE member");
      return { id: member.id, failure };
    }
  }

  #run(statement: Statement): StatementResult {
    const result = this.#execute(statement);
    const { expect } = statement;
    if (expect === undefined) return result;
    const held =
      (expect.rows === undefined || expect.rows === result.rows.length) &&
      (expect.changes === undefined || expect.changes === result.changes);
    if (!held) throw new FailureError(expect.otherwise);
    return result;
  }

  #execute({ sql, params = [] }: Statement): StatementResult {
    const prepared = this.#statements.prepare(sql);
    const kind = this.#kindOf(prepared, sql);
    if (kind === "changes") return { rows: [], changes: Number(prepared.run(...params).changes) };
    const rows = narrowRows(prepared.all(...params));
    // RETURNING gives a row for each that was changed.
    return { rows, changes: kind === "returns" ? rows.length : 0 };
  }

  #kindOf(prepared: StatementSync, sql: string): Kind {
    const known = this.#kinds.get(prepared);
    if (known !== undefined) return known;
    const kind = kindOf(prepared, sql);
    if (kind !== "changes") prepared.setReadBigInts(true);
    this.#kinds.set(prepared, kind);
    return kind;
  }

  #rollback(): void {
    if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
  }
}

function kindOf(prepared: StatementSync, sql: string): Kind {
  if (TRANSACTION_CONTROL.test(sql)) {
    const message = `metadata: a transaction's statements may not begin with ${JSON.stringify(sql.trim().slice(0, 20))}`;
    throw new FailureError({ code: "INTERNAL", reason: "METADATA_STATEMENT", message });
  }
  if (prepared.columns().length === 0) return "changes";
  return ONLY_READS.test(sql) ? "reads" : "returns";
}
