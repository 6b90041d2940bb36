/** Signals by name and number, as Linux has them on x86-64 and arm64; real-time ones as `SIGRTMIN+n`. */
import { constants } from "node:os";
import { StatusError } from "@berth/base";

const NUMBER_BY_NAME: ReadonlyMap<string, number> = new Map(Object.entries(constants.signals));
const NAME_BY_NUMBER: ReadonlyMap<number, string> = new Map(
  // SIGIOT, SIGPOLL and SIGUNUSED are second names: the first one met is the usual one, but for SIGIOT and SIGPOLL.
  [...NUMBER_BY_NAME]
    .filter(([name]) => !["SIGIOT", "SIGPOLL", "SIGUNUSED", "SIGCLD"].includes(name))
    .map(([name, number]) => [number, name]),
);

const SIGRTMIN = 34; // as glibc gives it: 32 and 33 belong to its threads
const SIGRTMAX = 64;

/**
 * `15`, `"15"`, `"TERM"`, `"SIGTERM"`, `"sigterm"`, `"SIGRTMIN+3"`, `"RTMAX-1"` → 15…; 0 is not a signal here.
 * @throws INVALID_ARGUMENT `SIGNAL_UNKNOWN`.
 */
export function signalNumber(signal: string | number): number {
  const text = String(signal).trim().toUpperCase();
  const number = /^\d+$/.test(text) ? Number(text) : named(text.startsWith("SIG") ? text : `SIG${text}`);
  if (number !== undefined && number >= 1 && number <= SIGRTMAX) return number;
  throw new StatusError("INVALID_ARGUMENT", `signal "${signal}": not known`, { reason: "SIGNAL_UNKNOWN" });
}

function named(name: string): number | undefined {
  const realTime = /^SIGRT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name);
  if (realTime === null) return NUMBER_BY_NAME.get(name);
  const offset = Number(realTime[3] ?? 0) * (realTime[2] === "-" ? -1 : 1);
  const number = (realTime[1] === "MIN" ? SIGRTMIN : SIGRTMAX) + offset;
  return number >= SIGRTMIN && number <= SIGRTMAX ? number : undefined;
}

/** `SIGTERM` for 15; `SIGRTMIN+3` for 37; the number itself for one without a name. */
export function signalName(number: number): string {
  const name = NAME_BY_NUMBER.get(number);
  if (name !== undefined) return name;
  if (number >= SIGRTMIN && number <= SIGRTMAX) {
    return number === SIGRTMIN ? "SIGRTMIN" : `SIGRTMIN+${number - SIGRTMIN}`;
  }
  return String(number);
}
