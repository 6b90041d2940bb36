/** The writer thread: opens the file, migrates it, then commits what it is asked for, as much at once as has arrived. */
import { closeSync, fsyncSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";
import { failureOf } from "./failure.ts";
import { GroupCommit, type Member } from "./group-commit.ts";
import { Headroom } from "./headroom.ts";
import { migrate } from "./migrate.ts";
import { openForWriting } from "./sqlite.ts";
import { packAnswers, Unpacker } from "./wire.ts";
import type { WriterInput, WriterReply, WriterRequest } from "./writer.ts";

const port = parentPort!;
const { path, migrations, headroomBytes } = workerData as WriterInput;

function reply(message: WriterReply): void {
  port.postMessage(message);
}

function open(): DatabaseSync {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  // Made before SQLite sees it, so that it and its -wal and -shm (which take over its mode) are the owner's alone.
  closeSync(openSync(path, "a", 0o600));
  const db = openForWriting(path);
  try {
    migrate(db, path, migrations, Date.now());
    fsyncDirectory(dirname(path));
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function fsyncDirectory(directory: string): void {
  const fd = openSync(directory, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function serve(db: DatabaseSync): void {
  const commit = new GroupCommit(db, path);
  const headroom = new Headroom(db, path, headroomBytes);
  const unpacker = new Unpacker();
  headroom.make();
  let queue: Member[] = [];
  let scheduled = false;
  let closing = false;

  // Whatever arrives while a COMMIT waits for the disk is in the port by the time it returns, and makes the next group.
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(turn);
  };
  const turn = (): void => {
    scheduled = false;
    if (queue.length > 0) {
      const { answers, taken, commits } = commit.apply(queue);
      queue = queue.slice(taken);
      reply({ kind: "answered", answers: packAnswers(answers), commits });
    }
    if (queue.length > 0) schedule();
    else if (closing) end();
    else headroom.restore(performance.now());
  };
  const end = (): void => {
    db.close();
    port.close();
  };

  port.on("message", (request: WriterRequest) => {
    if (request.kind === "transact") queue.push(...unpacker.read(request.packed));
    else closing = true;
    schedule();
  });
}

try {
  const db = open();
  serve(db);
  reply({ kind: "opened" });
} catch (error) {
  reply({ kind: "refused", failure: failureOf(error, path) });
  port.close();
}
