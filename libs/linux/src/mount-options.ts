/** mount(8)'s words for mount(2)'s flags: options that are none of them are data for the file system. */

export const MS = {
  rdonly: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  synchronous: 16,
  remount: 32,
  mandlock: 64,
  dirsync: 128,
  nosymfollow: 256,
  noatime: 1024,
  nodiratime: 2048,
  bind: 4096,
  rec: 16384,
  silent: 32768,
  unbindable: 1 << 17,
  private: 1 << 18,
  slave: 1 << 19,
  shared: 1 << 20,
  relatime: 1 << 21,
  strictatime: 1 << 24,
  lazytime: 1 << 25,
} as const;

type Effect = { readonly set?: number; readonly clear?: number; readonly propagation?: number };

const OPTIONS: Readonly<Record<string, Effect>> = {
  defaults: {},
  ro: { set: MS.rdonly },
  rw: { clear: MS.rdonly },
  nosuid: { set: MS.nosuid },
  suid: { clear: MS.nosuid },
  nodev: { set: MS.nodev },
  dev: { clear: MS.nodev },
  noexec: { set: MS.noexec },
  exec: { clear: MS.noexec },
  sync: { set: MS.synchronous },
  async: { clear: MS.synchronous },
  dirsync: { set: MS.dirsync },
  remount: { set: MS.remount },
  mand: { set: MS.mandlock },
  nomand: { clear: MS.mandlock },
  nosymfollow: { set: MS.nosymfollow },
  noatime: { set: MS.noatime },
  atime: { clear: MS.noatime },
  nodiratime: { set: MS.nodiratime },
  diratime: { clear: MS.nodiratime },
  relatime: { set: MS.relatime },
  norelatime: { clear: MS.relatime },
  strictatime: { set: MS.strictatime },
  nostrictatime: { clear: MS.strictatime },
  lazytime: { set: MS.lazytime },
  silent: { set: MS.silent },
  bind: { set: MS.bind },
  rbind: { set: MS.bind | MS.rec },
  private: { propagation: MS.private },
  rprivate: { propagation: MS.private | MS.rec },
  slave: { propagation: MS.slave },
  rslave: { propagation: MS.slave | MS.rec },
  shared: { propagation: MS.shared },
  rshared: { propagation: MS.shared | MS.rec },
  unbindable: { propagation: MS.unbindable },
  runbindable: { propagation: MS.unbindable | MS.rec },
};

export interface ParsedMountOptions {
  readonly flags: number;
  /** Flags that an option took away by name (`suid`, `rw`): a bind mount must not inherit them. */
  readonly cleared: number;
  /** One mount(2) call each, in order. */
  readonly propagation: readonly number[];
  readonly data: readonly string[];
}

/** Later options win over earlier ones, as with mount(8). */
export function parseMountOptions(options: readonly string[]): ParsedMountOptions {
  let flags = 0;
  let cleared = 0;
  const propagation: number[] = [];
  const data: string[] = [];
  for (const option of options) {
    const effect = Object.hasOwn(OPTIONS, option) ? OPTIONS[option] : undefined;
    if (effect === undefined) {
      if (option !== "") data.push(option);
      continue;
    }
    const { set = 0, clear = 0 } = effect;
    flags = (flags | set) & ~clear;
    cleared = (cleared | clear) & ~set;
    if (effect.propagation !== undefined) propagation.push(effect.propagation);
  }
  return { flags, cleared, propagation, data };
}
