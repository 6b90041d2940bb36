import type { Release } from "./release.ts";
/** @returns the digest of the manifest, by which nodes are told of it */
export declare function writeImage(archive: string, sha256: string, folder: string, release: Release): string;
