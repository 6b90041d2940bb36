/**
 * What extraction of a layer without its chain leaves to be done once the chain is there: `detached.ts` notes it, `rebase.ts`
 * does it, and it travels between threads in between.
 */

/** What `rebase.ts` mends. Structured-cloneable. */
export interface DetachedNotes {
  /**
   * Directories that no entry of the layer describes, parents first: root's, 0755, of the time of extraction. What the chain
   * below says of them counts; where it has anything but a directory, the layer must be extracted over the mounted chain.
   */
  readonly inventedDirectories: readonly string[];
  /** The same, for directories that entries went through before another one described or replaced them: only to be compared. */
  readonly assumedDirectories: readonly string[];
  /** Directories, not the root, with whiteouts in them: without a directory below them these would show. */
  readonly whiteoutDirectories: readonly string[];
  /** To be made in this order in the mounted view of the layer over its chain; no such target there: LAYER_INVALID. */
  readonly missingLinks: readonly MissingLink[];
  /** Why the layer is not right as it is and must be extracted over the mounted chain; undefined if it is. */
  readonly needsMerged: string | undefined;
}

export interface MissingLink {
  /** Where the link goes: its directory is there, its own name free in the mounted view. */
  readonly path: string;
  /** As the archive names it, cleaned; links in it are to be resolved with the root as `/`. */
  readonly target: string;
}
