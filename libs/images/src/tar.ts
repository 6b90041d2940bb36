/** Reading and writing tar archives without touching a file system: for programs that have no kernel bindings. */
export { archiveTooLarge, invalidArchive, showName, type EntryType, type TarEntry } from "./archive/entry.ts";
export { TarReader, type TarSink } from "./archive/reader.ts";
export { archiveEnd, entryHeader, entryPadding, type WrittenEntry } from "./archive/write-entry.ts";
