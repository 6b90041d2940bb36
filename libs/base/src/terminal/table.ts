/** Tables for people: upper-case headings, columns three blanks apart, as wide as their widest cell, no lines. */
import { visibleWidth } from "./paint.ts";

export interface Column<T> {
  readonly heading: string;
  readonly cell: (row: T) => string;
  /** Only with `-o wide`. */
  readonly wide?: boolean;
  /** At least so wide in a table that grows, so that its first rows stand under each other. */
  readonly least?: number;
}

const GAP = "   ";

export function formatTable<T>(columns: readonly Column<T>[], rows: readonly T[], options: { wide: boolean }): string {
  return createTable(columns, options).format(rows);
}

/** A table that grows row by row (`-w`): widths only ever grow, and the heading is printed once. */
export function createTable<T>(
  columns: readonly Column<T>[],
  options: { wide: boolean; growing?: boolean },
): { format(rows: readonly T[]): string } {
  const shown = columns.filter((column) => options.wide || column.wide !== true);
  const widths = shown.map(({ heading, least = 0 }) => Math.max(heading.length, options.growing === true ? least : 0));
  let headed = false;
  return {
    format(rows) {
      const cells = rows.map((row) => shown.map((column) => column.cell(row)));
      for (const line of cells) {
        line.forEach((cell, index) => (widths[index] = Math.max(widths[index] ?? 0, visibleWidth(cell))));
      }
      const lines = headed ? cells : [shown.map((column) => column.heading), ...cells];
      headed = true;
      return lines.map((line) => `${formatLine(line, widths)}\n`).join("");
    },
  };
}

function formatLine(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((cell, index) =>
    index === cells.length - 1 ? cell : cell + " ".repeat(Math.max(0, (widths[index] ?? 0) - visibleWidth(cell))),
  );
  return padded.join(GAP).trimEnd();
}
