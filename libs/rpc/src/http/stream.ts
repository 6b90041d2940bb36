/**
 * Server streams over HTTP: a JSON message a line (NDJSON), or server-sent events where the client asks for them.
 *
 * An error in the midst cannot change the status any more: it is the last line, `{"error": <problem>}`, or an event named
 * `error`. An event's id is its cursor, so that a browser's EventSource resumes by itself with Last-Event-ID.
 */
import { toJson, type DescMessage, type JsonObject, type Message } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { problemOf } from "./problem.ts";

export interface StreamFormat {
  readonly contentType: string;
  message(json: JsonObject): string;
  error(error: StatusError, requestId: string): string;
}

const ndjson: StreamFormat = {
  contentType: "application/x-ndjson",
  message: (json) => `${JSON.stringify(json)}\n`,
  error: (error, requestId) => `${JSON.stringify({ error: problemOf(error, requestId) })}\n`,
};

const serverSentEvents: StreamFormat = {
  contentType: "text/event-stream",
  message(json) {
    const event = json["event"];
    const cursor = typeof event === "object" && event !== null && "cursor" in event ? event["cursor"] : undefined;
    const id = typeof cursor === "string" ? `id: ${cursor}\n` : "";
    return `${id}data: ${JSON.stringify(json)}\n\n`;
  },
  error: (error, requestId) => `event: error\ndata: ${JSON.stringify(problemOf(error, requestId))}\n\n`,
};

export function streamFormat(accept: string | undefined): StreamFormat {
  return accept?.includes("text/event-stream") === true ? serverSentEvents : ndjson;
}

/** How long the first message is waited for, so that a refusal can still become a status of its own. */
const FIRST_MESSAGE_MS = 250;

/**
 * Begins to read a stream. Throws when it fails at once; otherwise gives the text chunks, the first message included.
 */
export async function openTextStream(
  messages: AsyncIterable<Message>,
  desc: DescMessage,
  format: StreamFormat,
  requestId: string,
): Promise<AsyncIterable<string>> {
  const iterator = messages[Symbol.asyncIterator]();
  const first = iterator.next();
  first.catch(() => {});
  const wait = Promise.withResolvers<void>();
  const timer = setTimeout(wait.resolve, FIRST_MESSAGE_MS);
  try {
    await Promise.race([first, wait.promise]);
  } finally {
    clearTimeout(timer);
  }
  return textChunks(iterator, first, desc, format, requestId);
}

async function* textChunks(
  iterator: AsyncIterator<Message>,
  first: Promise<IteratorResult<Message>>,
  desc: DescMessage,
  format: StreamFormat,
  requestId: string,
): AsyncGenerator<string> {
  let done = false;
  try {
    for (let next = await first; next.done !== true; next = await iterator.next()) {
      yield format.message(toJson(desc, next.value) as JsonObject);
    }
    done = true;
  } catch (error) {
    done = true;
    yield format.error(StatusError.from(error), requestId);
  } finally {
    if (!done) await iterator.return?.();
  }
}
