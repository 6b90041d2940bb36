/** `berth cp`: files and folders into a running task and out of it. The node makes and unpacks archives; images need no tar. */
import { once } from "node:events";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { formatBytes } from "@berth/base/terminal";
import { TaskService, type CopyInRequestSchema } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import type { Session } from "../session.ts";
import { packLocal } from "./local-pack.ts";
import { unpackLocal, type LocalTotals } from "./local-unpack.ts";
import { runningTask } from "./tasks-named.ts";

export async function cp(session: Session, paths: readonly string[]): Promise<void> {
  if (paths.length < 2)
    throw new UsageError("name what to copy and where to: berth cp FILE… TASK:PATH, TASK:PATH FILE");
  const places = paths.map(parsePlace);
  const target = places.at(-1)!;
  const sources = places.slice(0, -1);
  if (places.filter((place) => place.task !== undefined).length !== 1) {
    const both = "one side is a task's, TASK:PATH, and the other is local (write ./a:b for a local name with a colon)";
    throw new UsageError(`berth cp: ${both}`);
  }
  if (target.task !== undefined) await copyIn(session, sources, target as RemotePlace);
  else if (sources.length === 1) await copyOut(session, sources[0] as RemotePlace, target.path);
  else throw new UsageError("only one thing at a time is copied out of a task: berth cp TASK:PATH FILE|-");
}

interface Place {
  readonly task: string | undefined;
  readonly path: string;
}
type RemotePlace = Place & { readonly task: string };

/** `TASK:PATH` and `task/NAME:PATH`, but not `./a:b` and `/a:b`. */
function parsePlace(text: string): Place {
  const [, task, path = ""] = /^([a-z0-9][^:.]*(?:\.[^:]*)?):(.*)$/s.exec(text) ?? [];
  if (task === undefined) return { task: undefined, path: text };
  if (!path.startsWith("/")) {
    throw new UsageError(`${JSON.stringify(text)}: a path in a task begins with /, as in ${task}:/tmp`);
  }
  return { task, path };
}

async function copyIn(session: Session, sources: readonly Place[], target: RemotePlace): Promise<void> {
  if (sources.some(({ path }) => path === "-")) throw new UsageError("standard input cannot be copied: name a file");
  const namespace = session.namespace();
  const name = await runningTask(session, namespace, target.task);
  // Several things need a folder to be put in.
  const path = sources.length > 1 && !target.path.endsWith("/") ? `${target.path}/` : target.path;
  const begun = performance.now();
  const totals: LocalTotals = { files: 0, bytes: 0 };
  for (const source of sources) {
    const requests = sendArchive(
      { namespace, name, path },
      packLocal(source.path, (text) => session.note(text)),
    );
    let done = false;
    for await (const reply of session.client(TaskService).copyIn(requests, { signal: session.signal })) {
      totals.files += Number(reply.files);
      totals.bytes += Number(reply.bytes);
      done = true;
    }
    if (!done) throw new StatusError("UNAVAILABLE", `the connection ended before ${source.path} was copied`);
  }
  session.note(`copied ${summary(totals, begun)} to ${name}:${target.path}`);
}

type Request = MessageInitShape<typeof CopyInRequestSchema>;

async function* sendArchive(
  open: { readonly namespace: string; readonly name: string; readonly path: string },
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Request> {
  yield { message: { case: "open", value: open } };
  for await (const data of pieces) yield { message: { case: "data", value: data } };
  yield { message: { case: "finished", value: true } };
}

async function copyOut(session: Session, source: RemotePlace, target: string): Promise<void> {
  const namespace = session.namespace();
  const name = await runningTask(session, namespace, source.task);
  const begun = performance.now();
  const archive = archiveOf(session, { namespace, name, path: source.path });
  const print = target === "-" ? printTo(session) : undefined;
  const totals = await unpackLocal(archive, target, { print, onNote: (text) => session.note(text) });
  if (target !== "-") session.note(`copied ${summary(totals, begun)} to ${target}`);
}

async function* archiveOf(
  session: Session,
  request: { readonly namespace: string; readonly name: string; readonly path: string },
): AsyncGenerator<Buffer> {
  const pieces = session.client(TaskService).copyOut(request, { signal: session.signal });
  for await (const { data } of pieces) yield Buffer.from(data.buffer, data.byteOffset, data.length);
}

function printTo({ stdout, signal }: Session): {
  write(data: Uint8Array): Promise<void>;
  readonly isTerminal: boolean;
} {
  return {
    isTerminal: stdout.isTTY,
    async write(data) {
      if (!stdout.write(data)) await once(stdout, "drain", { signal });
    },
  };
}

function summary({ files, bytes }: LocalTotals, begun: number): string {
  const seconds = (performance.now() - begun) / 1_000;
  const rate = bytes > 1024 * 1024 ? ` (${formatBytes(bytes / seconds)}/s)` : "";
  return `${files === 1 ? "1 file" : `${files} files and folders`}, ${formatBytes(bytes)}${rate}`;
}
