/** Colour where it helps: on a terminal, unless NO_COLOR is set (no-color.org) or TERM is dumb. */

import { stripVTControlCharacters } from "node:util";

export interface Paint {
  readonly enabled: boolean;
  readonly red: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly blue: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly bold: (text: string) => string;
}

export function createPaint(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): Paint {
  const forced = (env["FORCE_COLOR"] ?? "") !== "" && env["FORCE_COLOR"] !== "0";
  const enabled = (env["NO_COLOR"] ?? "") === "" && (forced || (stream.isTTY === true && env["TERM"] !== "dumb"));
  const wrap =
    (open: number, close: number) =>
    (text: string): string =>
      enabled ? `\u001b[${open}m${text}\u001b[${close}m` : text;
  return {
    enabled,
    red: wrap(31, 39),
    green: wrap(32, 39),
    yellow: wrap(33, 39),
    blue: wrap(34, 39),
    dim: wrap(2, 22),
    bold: wrap(1, 22),
  };
}

/** How many columns a text takes, colours left out. */
export function visibleWidth(text: string): number {
  return Array.from(stripVTControlCharacters(text)).length;
}
