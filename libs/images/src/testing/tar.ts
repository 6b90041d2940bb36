/** Writes tar archives for tests, wrong ones too: every field can be given as it shall stand. */
import { Buffer } from "node:buffer";

export interface TarInput {
  readonly name: string;
  /** Type flag; "0" (file) by default. */
  readonly type?: string;
  readonly data?: Uint8Array | string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly linkName?: string;
  readonly major?: number;
  readonly minor?: number;
  /** Written as a pax header before the entry. */
  readonly pax?: Readonly<Record<string, string | Buffer>> | readonly (readonly [string, string | Buffer])[];
  /** The size field, if it shall be another than that of the data. */
  readonly size?: number;
  /** Changes the finished block before its checksum is made. */
  readonly patch?: (block: Buffer) => void;
  /** Leaves the checksum as it was before `patch`. */
  readonly badChecksum?: boolean;
  /** Blocks between header and data, as old GNU sparse has them. */
  readonly extra?: Buffer;
}

/** A whole archive with its two blocks of zeros. */
export function buildTar(entries: readonly TarInput[]): Buffer {
  return Buffer.concat([...entries.map(tarEntry), Buffer.alloc(1024)]);
}

/** One entry without what ends an archive. */
export function tarEntry(input: TarInput): Buffer {
  const data = Buffer.from(input.data ?? "");
  const parts: Buffer[] = [];
  if (input.pax !== undefined) parts.push(tarEntry({ name: "pax", type: "x", data: paxRecords(input.pax) }));
  parts.push(header(input, data.length));
  if (input.extra !== undefined) parts.push(input.extra);
  parts.push(data, Buffer.alloc((512 - (data.length % 512)) % 512));
  return Buffer.concat(parts);
}

export function paxRecords(records: NonNullable<TarInput["pax"]>): Buffer {
  const entries = Array.isArray(records) ? records : Object.entries(records);
  return Buffer.concat(
    entries.map(([key, value]: readonly [string, string | Buffer]) => {
      const body = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from("\n")]);
      let length = body.length + 1;
      while (String(length).length + body.length !== length) length = String(length).length + body.length;
      return Buffer.concat([Buffer.from(String(length)), body]);
    }),
  );
}

function header(input: TarInput, dataBytes: number): Buffer {
  const block = Buffer.alloc(512);
  const type = input.type ?? "0";
  block.write(input.name.slice(0, 100), 0, "latin1");
  octal(block, 100, 8, input.mode ?? (type === "5" ? 0o755 : 0o644));
  octal(block, 108, 8, input.uid ?? 0);
  octal(block, 116, 8, input.gid ?? 0);
  octal(block, 124, 12, input.size ?? dataBytes);
  octal(block, 136, 12, input.mtime ?? 1_600_000_000);
  block.write(type, 156, "latin1");
  block.write(input.linkName ?? "", 157, 100, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  octal(block, 329, 8, input.major ?? 0);
  octal(block, 337, 8, input.minor ?? 0);
  if (input.badChecksum) sum(block);
  input.patch?.(block);
  if (!input.badChecksum) sum(block);
  return block;
}

function octal(block: Buffer, offset: number, length: number, value: number): void {
  block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, offset, "latin1");
}

function sum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  const total = block.reduce((a, b) => a + b, 0);
  block.write(`${total.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}
