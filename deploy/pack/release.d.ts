export interface Release {
  /** `0.1.0+1a2b3c4d5e6f`; with `.dirty` when files differ from the commit. */
  readonly version: string;
  readonly commit: string;
  /** Of the commit. */
  readonly timeSeconds: number;
  readonly arch: string;
}
/** `berth-VERSION-linux-ARCH`: the archive's name without its suffix, and the folder in it. */
export declare function releaseName({ version, arch }: Release): string;
/**
 * @param version instead of the one of package.json and the commit
 * @throws when the Node of this machine's architecture is not installed
 */
export declare function releaseOf(repository: string, version?: string): Release;
