/**
 * The line on which a field of a TOML file stands, for errors. The parser keeps no positions of what it has read, so this
 * looks for the table's header and the key below it; where it cannot tell (an inline table), it gives the nearest line.
 */

/** From 1. @param path keys from the root to the field */
export function lineOf(text: string, path: readonly string[]): number {
  const lines = text.split("\n");
  let table: readonly string[] = [];
  let best = { line: 1, depth: 0 };
  for (const [index, line] of lines.entries()) {
    const header = /^\s*\[\[?(.*?)\]\]?\s*(#.*)?$/.exec(line);
    if (header !== null) table = keysOf(header[1]!);
    const keys = header === null ? [...table, ...keysOf(line.split("=", 1)[0]!)] : table;
    const depth = header === null && !line.includes("=") ? 0 : commonDepth(keys, path);
    if (depth > best.depth) best = { line: index + 1, depth };
  }
  return best.line;
}

/** How many keys of the path the given ones spell; 0 when they lead elsewhere. */
function commonDepth(keys: readonly string[], path: readonly string[]): number {
  return keys.length <= path.length && keys.every((key, index) => key === path[index]) ? keys.length : 0;
}

/** The parts of a dotted key, quotes taken off. */
function keysOf(text: string): string[] {
  const parts = text.match(/"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+/g) ?? [];
  return parts.map((part) => (/^["']/.test(part) ? part.slice(1, -1) : part));
}
