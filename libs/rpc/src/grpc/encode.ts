/**
 * Messages as bytes. One that carries nothing but a piece of data (a stream's output, an archive's next bytes) is written by hand
 * into one buffer of the right size: the general encoder grows its buffer and copies it, and collecting that garbage took more
 * time than all else about a copy of a gigabyte.
 */
import { ScalarType, toBinary, type DescField, type DescMessage, type Message } from "@bufbuild/protobuf";

/** Below this the general encoder is as good. */
const BULK_BYTES = 1024;
const LENGTH_DELIMITED = 2;

export function encodeMessage(schema: DescMessage, message: Message): Buffer {
  const bulk = bulkOf(schema, message);
  if (bulk === undefined) return asBuffer(toBinary(schema, message));
  const header = [...varint((bulk.number << 3) | LENGTH_DELIMITED), ...varint(bulk.data.length)];
  const bytes = Buffer.allocUnsafeSlow(header.length + bulk.data.length);
  bytes.set(header);
  bytes.set(bulk.data, header.length);
  return bytes;
}

/** The one field that is set, where the message can have only one and it is large. */
function bulkOf(
  schema: DescMessage,
  message: Readonly<Record<string, unknown>>,
): { readonly number: number; readonly data: Uint8Array } | undefined {
  const [first] = schema.members;
  if (schema.members.length !== 1 || first === undefined || message["$unknown"] !== undefined) return undefined;
  if (first.kind === "field") return bulkField(first, message[first.localName]);
  const { case: name, value } = message[first.localName] as { readonly case?: string; readonly value?: unknown };
  const field = name === undefined ? undefined : first.fields.find(({ localName }) => localName === name);
  return field === undefined ? undefined : bulkField(field, value);
}

function bulkField(
  field: DescField,
  value: unknown,
): { readonly number: number; readonly data: Uint8Array } | undefined {
  if (field.fieldKind !== "scalar" || field.scalar !== ScalarType.BYTES) return undefined;
  if (!(value instanceof Uint8Array) || value.length < BULK_BYTES) return undefined;
  return { number: field.number, data: value };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}
