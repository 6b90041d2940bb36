import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { SqlValue, Statement } from "./index.ts";
import { failureOfMember, packAnswers, Packer, unpackAnswers, Unpacker } from "./wire.ts";

const otherwise = { code: "ABORTED", reason: "MOVED_ON", message: "it moved on" };

const value: fc.Arbitrary<SqlValue> = fc.oneof(
  fc.constant(null),
  fc.integer(),
  fc.double({ noNaN: true }),
  fc.bigInt(),
  fc.string(),
  fc.uint8Array({ maxLength: 20 }),
  // A part of a larger buffer.
  fc.uint8Array({ minLength: 4, maxLength: 20 }).map((bytes) => bytes.subarray(1, -1)),
);
const statement: fc.Arbitrary<Statement> = fc.record(
  {
    sql: fc.string(),
    params: fc.array(value, { maxLength: 5 }),
    expect: fc.oneof(
      fc.record({ rows: fc.nat(3), otherwise: fc.constant(otherwise) }),
      fc.record({ changes: fc.nat(3), otherwise: fc.constant(otherwise) }),
    ),
  },
  { requiredKeys: ["sql"] },
);

/** What can be told apart after a clone: the bytes of a view, not its buffer. */
function plain(statements: readonly Statement[]): unknown {
  return statements.map(({ sql, params = [], expect }) => {
    const { otherwise: _, ...expected } = expect ?? {};
    return { sql, params: params.map((each) => (each instanceof Uint8Array ? [...each] : each)), expected };
  });
}

test("Packer's messages give the transactions that were added, each once and in their order", () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.array(statement, { maxLength: 4 }), { maxLength: 4 })), (messages) => {
      const [packer, unpacker] = [new Packer(), new Unpacker()];
      for (const transactions of messages) {
        for (const [id, statements] of transactions.entries()) packer.add(id, statements);
        assert.equal(packer.isEmpty, transactions.length === 0);
        const members = unpacker.read(structuredClone(packer.take()));
        assert.deepEqual(
          members.map(({ id, statements }) => [id, plain(statements)]),
          [...transactions.entries()].map(([id, statements]) => [id, plain(statements)]),
        );
      }
    }),
  );
});

test("Packer forgets statements when there are too many of them, on both sides", () => {
  const [packer, unpacker] = [new Packer(), new Unpacker()];
  let begunAnew = 0;
  for (let n = 0; n < 10_000; n += 1) {
    packer.add(n, [{ sql: `SELECT ${n}` }, { sql: "SELECT 'always'" }]);
    if (n % 100 !== 99) continue;
    const packed = packer.take();
    begunAnew += packed.anew ? 1 : 0;
    const read = unpacker.read(packed).map(({ statements }) => statements.map(({ sql }) => sql));
    assert.deepEqual([read.length, read.at(-1)], [100, [`SELECT ${n}`, "SELECT 'always'"]]);
  }
  assert.ok(begunAnew >= 3 && begunAnew <= 5, `${begunAnew} times`);
});

test("Packer adds nothing of a transaction with what is no SQL value", () => {
  const packer = new Packer();
  const odd = [
    { sql: "SELECT ?", params: [1] },
    { sql: "SELECT ?", params: [true as unknown as number] },
  ];
  assert.throws(() => packer.add(1, odd), /boolean cannot be a parameter/);
  assert.ok(packer.isEmpty);
});

test("packAnswers gives results and failures back, rows with their columns", () => {
  const answers = [
    { id: 7, results: [] },
    {
      id: 8,
      results: [
        { rows: [], changes: 3 },
        {
          rows: [
            { a: 1, b: null },
            { a: 2n ** 60n, b: "x" },
          ],
          changes: 0,
        },
      ],
    },
    { id: 9, failure: { code: "INTERNAL", reason: "R", message: "m" } },
    { id: 10, results: [{ rows: [{ bytes: new Uint8Array([1, 2]) }], changes: 1 }] },
  ];
  assert.deepEqual(unpackAnswers(structuredClone(packAnswers(answers))), answers);
});

test("failureOfMember puts what was expected into the words of whoever asked", () => {
  const statements: Statement[] = [{ sql: "one" }, { sql: "two", expect: { changes: 1, otherwise } }];
  const packer = new Packer();
  packer.add(1, statements);
  const [member] = new Unpacker().read(packer.take());
  const unmet = member!.statements[1]!.expect!.otherwise;
  assert.deepEqual(failureOfMember(unmet, statements), otherwise);
  const other = { code: "INTERNAL", reason: "METADATA_STATEMENT", message: "1" };
  assert.equal(failureOfMember(other, statements), other);
});
