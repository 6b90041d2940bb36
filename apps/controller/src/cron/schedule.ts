/**
 * A cron schedule in a time zone: five fields (or @daily and its like), read by cron-parser. This file is the only one that knows
 * the library.
 *
 * Where clocks are put forward, a time that does not exist is run at the same distance after midnight, once; where they are put
 * back, a time that exists twice is run at the first of them, once. A schedule by the hour or minute goes on in elapsed time. Left
 * to the library: where clocks move by half an hour (Lord Howe Island alone), a repeated time may be run twice.
 */
import { StatusError } from "@berth/base";
import { CronExpressionParser } from "cron-parser";

export interface Schedule {
  /** The first scheduled time after a moment. */
  next(after: Date): Date;
  /** After the first moment and not after the second, oldest first; of more than `limit`, the newest. */
  timesBetween(after: Date, until: Date, limit: number): readonly Date[];
}

/** @throws INVALID_ARGUMENT `SCHEDULE_INVALID` that says what is wrong with which of both */
export function parseSchedule(expression: string, timeZone: string): Schedule {
  const zone = timeZone === "" ? "UTC" : timeZone;
  if (!isTimeZone(zone)) throw invalid(`${JSON.stringify(timeZone)} is no IANA time zone such as Europe/Berlin`);
  // The library takes fewer fields (filling them in) and a sixth (seconds): neither is meant here.
  if (!/^@[a-z]+$/.test(expression) && expression.trim().split(/\s+/).length !== 5) {
    throw invalid(`${JSON.stringify(expression)} must have five fields: minute, hour, day, month, weekday`);
  }
  const from = (moment: Date) => CronExpressionParser.parse(expression, { tz: zone, currentDate: moment });
  const next = (after: Date): Date => from(after).next().toDate();
  try {
    next(new Date(0));
  } catch (error) {
    throw invalid(`${JSON.stringify(expression)}: ${(error as Error).message}`);
  }
  return {
    next,
    timesBetween(after, until, limit) {
      return walk(from(after), until, limit) ?? walk(from(new Date(until.getTime() - DAY_MS)), until, limit) ?? [];
    },
  };
}

const DAY_MS = 86_400_000;
/** A clock that stood still for a year must not cost half a million steps; one so dense has many times in its last day. */
const MOST_STEPS = 10_000;

/**
 * Forwards only: backwards, the library tells a time that the clocks repeat twice. Undefined when there are too many.
 */
function walk(times: { next(): { toDate(): Date } }, until: Date, limit: number): Date[] | undefined {
  const found: Date[] = [];
  for (let steps = 0; steps < MOST_STEPS; steps += 1) {
    const time = times.next().toDate();
    if (time > until) return found;
    found.push(time);
    if (found.length > limit) found.shift();
  }
  return undefined;
}

function isTimeZone(zone: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: zone }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}

const invalid = (message: string): StatusError =>
  new StatusError("INVALID_ARGUMENT", message, { reason: "SCHEDULE_INVALID" });
