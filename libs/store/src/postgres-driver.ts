/**
 * What postgres.js 3.4.9 does when a connection is lost at the wrong moment, and what keeps it from harm (its issues 1066, 1154 and
 * 1208; chaos seed 1 met both).
 *
 * Writes below 1,024 bytes wait for the end of the turn. When the connection is gone by then, the driver (a) throws where nobody
 * can catch it, and (b) keeps the bytes and the mark that they are about to be written: the start-up packet of the next connection
 * is put behind them and never sent, so that connection hangs for minutes, as often as it is tried.
 */

/**
 * A start-up packet of more than 1,024 bytes is written at once, with whatever was kept before it: the server refuses that, and the
 * next try is clean. The server splits the value at blanks and finds no options in it.
 */
export const STARTUP_OPTIONS = " ".repeat(1_100);

/** (a): the query itself has been rejected by then, as one whose connection was lost. */
export function isLostSocketWrite(error: unknown): boolean {
  return (
    error instanceof TypeError &&
    /reading 'write'/.test(error.message) &&
    /\bnextWrite \(.*[/\\]postgres[/\\].*connection\.js/.test(error.stack ?? "")
  );
}
