/**
 * What one run of a `berthd` command holds: where it reads and writes, whom it asks, and in which namespace. Commands take a
 * Session and never touch `process`.
 */
import { toJson, type DescMessage, type DescService, type MessageShape } from "@bufbuild/protobuf";
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { Lifetime } from "@berth/base";
import {
  createPaint,
  formatSeconds,
  formatTable,
  parseDurationMs,
  type Column,
  type Paint,
} from "@berth/base/terminal";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
import { UsageError } from "./exit-code.ts";
import type { GlobalOptions } from "./options.ts";

export interface SessionInput {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Fires at Ctrl-C; every call ends with it. */
  readonly signal: AbortSignal;
}

export interface Session extends SessionInput, AsyncDisposable {
  readonly namespace: string;
  readonly json: boolean;
  /** Colours for stderr, where progress is. */
  readonly paint: Paint;
  /** A client of one service, connected at its first call. */
  client<S extends DescService>(service: S): GrpcClient<S>;
  /** A line for stdout: a result. */
  out(text: string): void;
  /** A line for stderr: a remark for people. */
  note(text: string): void;
}

const DEFAULT_SOCKET = "/run/berth/berthd.sock";

export async function openSession(input: SessionInput, options: GlobalOptions): Promise<Session> {
  if (options.output !== "table" && options.output !== "json") {
    throw new UsageError(`-o ${JSON.stringify(options.output)}: choose table or json`);
  }
  const endpoint = await endpointOf(options, input.env);
  const lifetime = new Lifetime();
  return {
    ...input,
    namespace: options.namespace,
    json: options.output === "json",
    paint: createPaint(input.stderr, input.env),
    client: (service) => lifetime.own(createGrpcClient(service, { endpoint, signal: input.signal })),
    out: (text) => void input.stdout.write(`${text}\n`),
    note: (text) => void input.stderr.write(`${text}\n`),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

/** `--address`, else what the agent's own configuration says, else its default. */
async function endpointOf({ address, config }: GlobalOptions, env: NodeJS.ProcessEnv): Promise<string> {
  if (address !== undefined) {
    const path = /^unix:(?:\/\/)?(\/.+)$/.exec(address)?.[1];
    if (path === undefined) {
      throw new UsageError(`--address ${JSON.stringify(address)} is not of the form unix:/run/berth/berthd.sock`);
    }
    return `unix:${path}`;
  }
  if (config !== undefined) {
    const { hostSocketOf, loadAgentConfig } = await import("@berth/config");
    return `unix:${hostSocketOf(await loadAgentConfig({ file: config, env }))}`;
  }
  const state = env["BERTH_STATE"];
  return `unix:${env["BERTH_HOST_SOCKET"] ?? (state === undefined ? DEFAULT_SOCKET : `${state}/berthd.sock`)}`;
}

/** One thing as JSON, as protobuf writes it. */
export function printJson<D extends DescMessage>(session: Session, desc: D, message: MessageShape<D>): void {
  session.out(JSON.stringify(toJson(desc, message), null, 2));
}

/** A list as a table, or as a JSON array. */
export function printList<D extends DescMessage>(
  session: Session,
  desc: D,
  rows: readonly MessageShape<D>[],
  columns: readonly Column<MessageShape<D>>[],
): void {
  if (session.json) {
    session.out(
      JSON.stringify(
        rows.map((row) => toJson(desc, row)),
        null,
        2,
      ),
    );
  } else session.stdout.write(formatTable(columns, rows, { wide: false }));
}

/** `NAME: value` lines, for one thing. */
export function printFields(session: Session, fields: readonly (readonly [name: string, value: string])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length)) + 1;
  for (const [name, value] of fields) session.out(`${`${name}:`.padEnd(width)} ${value}`);
}

export function ageOf(time: Timestamp | undefined): string {
  if (time === undefined) return "-";
  return formatSeconds(Math.max(0, Math.floor((Date.now() - timestampDate(time).getTime()) / 1000)));
}

export function timeOf(time: Timestamp | undefined): string {
  return time === undefined ? "-" : timestampDate(time).toISOString();
}

/** `sha256:0123456789ab`: enough to tell digests apart on a screen. */
export function shortDigest(digest: string): string {
  const colon = digest.indexOf(":");
  return colon < 0 ? digest : digest.slice(0, colon + 13);
}

export function labelsOf(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? "-" : pairs.sort().join(",");
}

/** `90s`, `24h`, `7d`, in milliseconds. */
export function parseDuration(text: string, option: string): number {
  const ms = parseDurationMs(text);
  if (ms === undefined) {
    throw new UsageError(`${option} ${JSON.stringify(text)} is not a duration such as 90s, 24h or 7d`);
  }
  return ms;
}

/** `KEY=VALUE` sets, `KEY-` takes away (an empty value). */
export function parseLabels(items: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const item of items) {
    const at = item.indexOf("=");
    if (at > 0) labels[item.slice(0, at)] = item.slice(at + 1);
    else if (at < 0 && item.endsWith("-") && item.length > 1) labels[item.slice(0, -1)] = "";
    else throw new UsageError(`${JSON.stringify(item)} is neither KEY=VALUE nor KEY-`);
  }
  return labels;
}
