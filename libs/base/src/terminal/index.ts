export { allCommands, commandAt, commandPath, commandTerm, usageComplaint, type CommandNode } from "./command-tree.ts";
export { exitCodeOfStatus } from "./exit-code.ts";
export { createLiveLines, formatBar, type LiveLines, type TerminalStream } from "./live-lines.ts";
export { createPaint, visibleWidth, type Paint } from "./paint.ts";
export { createTable, formatTable, type Column } from "./table.ts";
export { formatBytes, formatSeconds, parseDurationMs } from "./units.ts";
