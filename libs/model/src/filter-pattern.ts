/**
 * Regular expressions from strangers: JavaScript's matcher backtracks, so that `(a+)+$` takes exponential time. Refused are
 * repetitions of groups that themselves repeat or choose, back references and look-around; what is left is polynomial, and
 * the matched text is bounded by the caller.
 */
import type { StatusError } from "@berth/base";

const MAX_PATTERN_LENGTH = 256;
const REPEAT = /^(?:[*+]|\{[0-9]+,[0-9]*\}|\{[0-9]{2,}\})/;
const MAX_REPEATS = 8;

export function compilePattern(source: string, wrong: (why: string) => StatusError): RegExp {
  if (source.length > MAX_PATTERN_LENGTH) throw wrong(`has a pattern longer than ${MAX_PATTERN_LENGTH} characters`);
  const problem = hazard(source);
  if (problem !== undefined) throw wrong(`has a pattern with ${problem}; write a simpler one`);
  try {
    return new RegExp(source, "u");
  } catch (error) {
    throw wrong(`has the pattern ${JSON.stringify(source)}, which is not valid: ${reasonOf(error)}`);
  }
}

interface Group {
  risky: boolean;
}

/** Walks the pattern once; knows of groups, classes and escapes as much as it takes to see repetitions nest. */
function hazard(source: string): string | undefined {
  const groups: Group[] = [{ risky: false }];
  let repeats = 0;
  for (let at = 0; at < source.length; at += 1) {
    const char = source[at]!;
    if (char === "\\") {
      at += 1;
      if (/[1-9k]/.test(source[at] ?? "")) return "a back reference";
    } else if (char === "[") at = endOfClass(source, at);
    else if (char === "(") {
      if (/^\(\?[=!<]/.test(source.slice(at))) return "look-around or a named group";
      groups.push({ risky: false });
    } else if (char === ")") {
      const closed = groups.length > 1 ? groups.pop()! : groups[0]!;
      if (closed.risky && REPEAT.test(source.slice(at + 1))) return "a repetition of a group that repeats or chooses";
      if (closed.risky) groups.at(-1)!.risky = true;
    } else if (char === "|") groups.at(-1)!.risky = true;
    else if (REPEAT.test(source.slice(at))) {
      groups.at(-1)!.risky = true;
      repeats += 1;
      if (repeats > MAX_REPEATS) return `more than ${MAX_REPEATS} repetitions`;
    }
  }
  return undefined;
}

function endOfClass(source: string, start: number): number {
  let at = start + 1;
  while (at < source.length && source[at] !== "]") at += source[at] === "\\" ? 2 : 1;
  return at;
}

function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.slice(message.lastIndexOf(": ") + 2).toLowerCase();
}
