/**
 * Requests of which most is the same each time: facts, and news behind them.
 *
 * Their sender encodes the facts when they change, and the news alone each time ({@link RequestOptions.facts}). Concatenated
 * encodings are one message (protobuf's encoding guide, "last one wins"), so whoever knows nothing of this reads it as ever. Who
 * serves them keeps each node's facts as they came, and decodes only the news of a request that begins with the same bytes.
 *
 * Invariants:
 *  1. What is read is what decoding the whole gives. Facts are kept only when they are a message by themselves, and what follows
 *     them is news only when it has nothing but fields of news. Everything else is decoded whole, and fails as it always did.
 *  2. Bytes are compared with those of the same node, which is the subject's (D8). What a node says in them is for the handler to
 *     check, once for the same facts.
 *  3. Memory is bounded: {@link MAX_FACTS_BYTES} of a node, and nodes that are gone are forgotten.
 */
import {
  create,
  fromBinary,
  mergeFromBinary,
  ScalarType,
  type DescField,
  type DescMessage,
  type Message,
  type MessageShape,
} from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { SenderMemory, type SenderMemoryOptions } from "./sender-memory.ts";

/** Longer ones are decoded each time. */
const MAX_FACTS_BYTES = 64 * 1024;

export interface FactsSpec<Schema extends DescMessage, Facts> {
  readonly schema: Schema;
  /** Fields that every request says anew. */
  readonly news: readonly (keyof MessageShape<Schema>)[];
  /** What the handler wants to know of the facts, made once for the same bytes; it reads nothing of the news. */
  readonly factsOf: (request: MessageShape<Schema>) => Facts;
}

export interface ReadRequest<Schema extends DescMessage, Facts> {
  /** Whole. Lists and maps of requests with the same facts are the same objects: not to be changed. */
  readonly message: MessageShape<Schema>;
  readonly facts: Facts;
}

/** A field of news: how it is on the wire, and how it is read there. */
interface NewsField<Schema extends DescMessage> {
  readonly name: keyof MessageShape<Schema>;
  readonly wireType: WireType;
  /** `before`: what an encoding before it said, which messages merge with. */
  readonly value: (reader: BinaryReader, before: unknown) => unknown;
}

interface Kept<Schema extends DescMessage, Facts> {
  readonly bytes: Uint8Array;
  /** The facts alone. */
  readonly message: MessageShape<Schema>;
  readonly facts: Facts;
}

export class FactsReader<Schema extends DescMessage, Facts> {
  readonly #spec: FactsSpec<Schema, Facts>;
  /** By field number. */
  readonly #news: ReadonlyMap<number, NewsField<Schema>>;
  readonly #kept: SenderMemory<Kept<Schema, Facts>>;

  constructor(spec: FactsSpec<Schema, Facts>, options: SenderMemoryOptions = {}) {
    this.#spec = spec;
    this.#news = newsFields(spec);
    this.#kept = new SenderMemory(options);
  }

  /** @param node from the subject. @throws what decoding throws, of bytes that are no such message. */
  read(node: string, payload: Uint8Array): ReadRequest<Schema, Facts> {
    const kept = this.#kept.get(node);
    if (kept !== undefined && beginsWith(payload, kept.bytes)) {
      const message = this.#withNews(kept, payload);
      if (message !== undefined) return { message, facts: kept.facts };
    }
    const message = fromBinary(this.#spec.schema, payload);
    const facts = this.#spec.factsOf(message);
    this.#keep(node, payload, facts);
    return { message, facts };
  }

  #keep(node: string, payload: Uint8Array, facts: Facts): void {
    const length = this.#newsBegin(payload) ?? 0;
    this.#kept.delete(node);
    if (length === 0 || length > MAX_FACTS_BYTES) return;
    // A copy: the payload is a part of what the socket has read.
    const bytes = new Uint8Array(payload.subarray(0, length));
    try {
      this.#kept.set(node, { bytes, message: fromBinary(this.#spec.schema, bytes), facts });
    } catch {
      // A field that claims more bytes than the facts have.
    }
  }

  /** The facts, with the news that follow them. Undefined: there is more than news, or no message. */
  #withNews({ bytes, message }: Kept<Schema, Facts>, payload: Uint8Array): MessageShape<Schema> | undefined {
    const whole = { ...message };
    const reader = new BinaryReader(payload);
    reader.pos = bytes.length;
    try {
      while (reader.pos < reader.len) {
        const [number, wireType] = reader.tag();
        const field = this.#news.get(number);
        if (field?.wireType !== wireType) return undefined;
        whole[field.name] = field.value(reader, whole[field.name]) as MessageShape<Schema>[keyof MessageShape<Schema>];
      }
    } catch {
      return undefined;
    }
    return whole;
  }

  /** Where the facts end. Undefined: a fact, or something unknown, stands behind news; or the bytes are no message. */
  #newsBegin(payload: Uint8Array): number | undefined {
    const reader = new BinaryReader(payload);
    let begin: number | undefined;
    try {
      while (reader.pos < reader.len) {
        const at = reader.pos;
        const [field, wireType] = reader.tag();
        const news = this.#news.get(field);
        if (news?.wireType === wireType) begin ??= at;
        else if (begin !== undefined || news !== undefined) return undefined;
        reader.skip(wireType, field);
      }
    } catch {
      return undefined;
    }
    return begin ?? payload.length;
  }
}

function beginsWith(payload: Uint8Array, bytes: Uint8Array): boolean {
  return payload.length >= bytes.length && Buffer.compare(payload.subarray(0, bytes.length), bytes) === 0;
}

function newsFields<Schema extends DescMessage>({ schema, news }: FactsSpec<Schema, unknown>) {
  return new Map(
    news.map((name) => {
      const field = schema.fields.find(({ localName }) => localName === name);
      if (field === undefined) throw new TypeError(`${schema.typeName} has no field ${String(name)}`);
      return [field.number, { name, ...readingOf(field) }];
    }),
  );
}

/** @throws TypeError for fields that cannot be news: those of which several encodings add up, and kinds that nobody has needed. */
function readingOf(field: DescField): Omit<NewsField<DescMessage>, "name"> {
  const { LengthDelimited, Varint } = WireType;
  if (field.fieldKind === "scalar" && field.scalar === ScalarType.STRING) {
    return { wireType: LengthDelimited, value: (reader) => reader.string(field.utf8Validation) };
  }
  if (field.fieldKind === "scalar" && field.scalar === ScalarType.INT64) {
    return { wireType: Varint, value: (reader) => reader.int64() };
  }
  if (field.fieldKind === "message") {
    const { message: schema } = field;
    const merge = (before: unknown, bytes: Uint8Array) =>
      mergeFromBinary(schema, before === undefined ? create(schema) : (before as Message), bytes);
    return { wireType: LengthDelimited, value: (reader, before) => merge(before, reader.bytes()) };
  }
  throw new TypeError(`field ${String(field)} cannot be news`);
}
