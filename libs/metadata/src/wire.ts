/**
 * How transactions and their outcomes cross between the two threads.
 *
 * Cloning objects between threads costs more than what a transaction does, by far: each key of each object is written and read
 * again. So a message is one flat list of plain values, and what it says is by place:
 *
 *     transaction  id, statements…          each: text, rows expected, changes expected, parameters…   (-1: nothing is expected)
 *     outcome      id, results…             each: changes, rows; and if there are rows: columns, names…, values…
 *                  id, -1, code, reason, message
 *
 * A list is preceded by its length. The text of a statement crosses once and is a number from then on. Bytes of parameters cross
 * together, in one buffer; in their places stand `undefined` and how many they are.
 *
 * What is to be said when an expectation does not hold stays with whoever asked: the outcome names the statement.
 */
import type { Failure } from "./failure.ts";
import type { SqlRow, SqlValue, Statement, StatementResult } from "./metadata.ts";
import type { Answer, Member } from "./writer.ts";

type Word = SqlValue | undefined;

/** Transactions on their way to the writer. */
export interface Packed {
  /** Statements that are numbered from here on, after those of the messages before; `anew`: after none. */
  readonly texts: readonly string[];
  readonly anew: boolean;
  readonly words: readonly Word[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** So many texts are kept on either side. There are some dozens, unless somebody writes values into them. */
const MAX_TEXTS = 2_048;
const UNMET = "EXPECTATION_UNMET";

/** Gathers transactions for one message after another. */
export class Packer {
  readonly #numbers = new Map<string, number>();
  #texts: string[] = [];
  #anew = false;
  #words: Word[] = [];
  #blobs: Uint8Array[] = [];
  #blobBytes = 0;

  /** @throws TypeError for a parameter that is no SQL value; then nothing was added. */
  add(id: number, statements: readonly Statement[]): void {
    for (const { params = [] } of statements) params.forEach(checkValue);
    const words = this.#words;
    words.push(id, statements.length);
    for (const { sql, params = [], expect } of statements) {
      words.push(this.#numberOf(sql), expect?.rows ?? -1, expect?.changes ?? -1, params.length);
      for (const value of params) {
        if (!(value instanceof Uint8Array)) words.push(value);
        else {
          words.push(undefined, value.length);
          this.#blobs.push(value);
          this.#blobBytes += value.length;
        }
      }
    }
  }

  get isEmpty(): boolean {
    return this.#words.length === 0;
  }

  /** What was added since the last time. */
  take(): Packed {
    const bytes = new Uint8Array(this.#blobBytes);
    let offset = 0;
    for (const blob of this.#blobs) {
      bytes.set(blob, offset);
      offset += blob.length;
    }
    const packed = { texts: this.#texts, anew: this.#anew, words: this.#words, bytes };
    [this.#texts, this.#anew, this.#words, this.#blobs, this.#blobBytes] = [[], false, [], [], 0];
    // Only between messages: the numbers in one are of one list.
    if (this.#numbers.size > MAX_TEXTS) {
      this.#numbers.clear();
      this.#anew = true;
    }
    return packed;
  }

  #numberOf(sql: string): number {
    const known = this.#numbers.get(sql);
    if (known !== undefined) return known;
    const number = this.#numbers.size;
    this.#numbers.set(sql, number);
    this.#texts.push(sql);
    return number;
  }
}

/** The other side of {@link Packer}: reads its messages, in their order. */
export class Unpacker {
  #texts: string[] = [];

  read({ texts, anew, words, bytes }: Packed): Member[] {
    if (anew) this.#texts = [];
    this.#texts.push(...texts);
    const members: Member[] = [];
    let [at, offset] = [0, 0];
    const next = (): Word => words[at++];
    const value = (): SqlValue => {
      const word = next();
      if (word !== undefined) return word;
      const from = offset;
      offset += Number(next());
      return bytes.subarray(from, offset);
    };
    while (at < words.length) {
      const id = Number(next());
      const statements = Array.from({ length: Number(next()) }, (_, index): Statement => {
        const sql = this.#texts[Number(next())]!;
        const [rows, changes] = [Number(next()), Number(next())];
        const params = Array.from({ length: Number(next()) }, value);
        return rows < 0 && changes < 0 ? { sql, params } : { sql, params, expect: expectation(rows, changes, index) };
      });
      members.push({ id, statements });
    }
    return members;
  }
}

/** The failure of a transaction, as whoever asked for it has put it. */
export function failureOfMember(failure: Failure, statements: readonly Statement[]): Failure {
  if (failure.reason !== UNMET) return failure;
  return statements[Number(failure.message)]?.expect?.otherwise ?? failure;
}

export function packAnswers(answers: readonly Answer[]): readonly SqlValue[] {
  const words: SqlValue[] = [];
  for (const answer of answers) {
    if ("failure" in answer) {
      const { code, reason, message } = answer.failure;
      words.push(answer.id, -1, code, reason, message);
      continue;
    }
    words.push(answer.id, answer.results.length);
    for (const { changes, rows } of answer.results) packResult(words, changes, rows);
  }
  return words;
}

export function unpackAnswers(words: readonly SqlValue[]): Answer[] {
  const answers: Answer[] = [];
  let at = 0;
  const next = (): SqlValue => words[at++]!;
  const result = (): StatementResult => {
    const [changes, count] = [Number(next()), Number(next())];
    if (count === 0) return { changes, rows: [] };
    const names = Array.from({ length: Number(next()) }, () => String(next()));
    const rows = Array.from({ length: count }, () => {
      const row: SqlRow = {};
      for (const name of names) row[name] = next();
      return row;
    });
    return { changes, rows };
  };
  while (at < words.length) {
    const [id, count] = [Number(next()), Number(next())];
    if (count >= 0) answers.push({ id, results: Array.from({ length: count }, result) });
    else {
      const [code, reason, message] = [String(next()), String(next()), String(next())];
      answers.push({ id, failure: { code, reason, message } });
    }
  }
  return answers;
}

function packResult(words: SqlValue[], changes: number, rows: readonly SqlRow[]): void {
  words.push(changes, rows.length);
  if (rows.length === 0) return;
  const names = Object.keys(rows[0]!);
  words.push(names.length, ...names);
  for (const row of rows) for (const name of names) words.push(row[name]!);
}

function expectation(rows: number, changes: number, statement: number): NonNullable<Statement["expect"]> {
  return {
    ...(rows < 0 ? {} : { rows }),
    ...(changes < 0 ? {} : { changes }),
    otherwise: { code: "INTERNAL", reason: UNMET, message: String(statement) },
  };
}

function checkValue(value: unknown): void {
  if (value === null || value instanceof Uint8Array) return;
  if (typeof value === "string" || typeof value === "number" || typeof value === "bigint") return;
  throw new TypeError(`${typeof value} cannot be a parameter`);
}
