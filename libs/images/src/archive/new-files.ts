/**
 * What a new file of one directory gets without being asked: its owner, and whether the mode comes out as it was given.
 *
 * Both are seen at a file that was made there, not reckoned: setgid directories, default ACLs, the umask, mount options such
 * as `grpid` and user namespaces all have a say. What holds for one file holds for the next of the same mode, so that nearly
 * all files of an image cost neither a chown nor a chmod.
 */
import { fchmodSync, fchownSync, fstatSync } from "node:fs";

export interface Ownership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits; without setuid, setgid and sticky where a file was made with it. */
  readonly mode: number;
}

export class NewFiles {
  #uid = -1;
  #gid = -1;
  readonly #exact = new Map<number, boolean>();

  /** Is a new file, or link, of this directory this owner's? False while none was seen. */
  owns({ uid, gid }: Ownership): boolean {
    return uid === this.#uid && gid === this.#gid;
  }

  /** Does a new file of this mode come out as wanted? */
  makes(wanted: Ownership): boolean {
    return this.owns(wanted) && this.#exact.get(wanted.mode) === true;
  }

  /** Gives a file that was just made with `wanted.mode` what it lacks. */
  settle(fd: number, wanted: Ownership): void {
    let exact = this.#exact.get(wanted.mode);
    if (exact === undefined) {
      const { uid, gid, mode } = fstatSync(fd);
      this.#uid = uid;
      this.#gid = gid;
      exact = (mode & 0o7777) === wanted.mode;
      this.#exact.set(wanted.mode, exact);
    }
    if (!this.owns(wanted)) fchownSync(fd, wanted.uid, wanted.gid);
    if (!exact) fchmodSync(fd, wanted.mode);
  }
}
