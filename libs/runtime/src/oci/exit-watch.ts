/**
 * Hearing of exits: one directory watch per namespace, shared by all waiters, and one slow timer that finds the containers
 * whose supervisor is gone, which covers lost notifications, too: conmon ends right after it has written an exit.
 */
import { watch, type FSWatcher } from "node:fs";
import { StatusError } from "@berth/base";

interface Waiter {
  readonly wake: () => void;
  readonly supervisorAlive: () => boolean;
}

interface WatchedDirectory {
  readonly watcher: FSWatcher | undefined;
  readonly waiters: Map<string, Set<Waiter>>;
}

export class ExitWatch implements Disposable {
  readonly #pollMs: number;
  readonly #directories = new Map<string, WatchedDirectory>();
  #timer: NodeJS.Timeout | undefined;
  #disposed = false;

  constructor(pollMs: number) {
    this.#pollMs = pollMs;
  }

  /**
   * Resolves at the next sign that the state of `id` may have changed. Call it before looking at the state, so that nothing
   * is missed in between; dispose what is no longer awaited.
   */
  subscribe(directory: string, id: string, supervisorAlive: () => boolean): Disposable & { changed: Promise<void> } {
    if (this.#disposed) throw new StatusError("CANCELLED", "the runtime is closing");
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiter: Waiter = { wake: resolve, supervisorAlive };
    const watched = this.#watched(directory);
    const waiters = watched.waiters.get(id) ?? new Set();
    watched.waiters.set(id, waiters.add(waiter));
    this.#timer ??= setInterval(() => this.#poll(), this.#pollMs);
    return { changed: promise, [Symbol.dispose]: () => this.#leave(directory, id, waiter) };
  }

  /** Wakes everybody. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    clearInterval(this.#timer);
    for (const { watcher, waiters } of this.#directories.values()) {
      watcher?.close();
      for (const set of waiters.values()) for (const waiter of set) waiter.wake();
    }
    this.#directories.clear();
  }

  #watched(directory: string): WatchedDirectory {
    const known = this.#directories.get(directory);
    if (known !== undefined) return known;
    const waiters = new Map<string, Set<Waiter>>();
    const watched = { watcher: openWatcher(directory, waiters), waiters };
    this.#directories.set(directory, watched);
    return watched;
  }

  #leave(directory: string, id: string, waiter: Waiter): void {
    const watched = this.#directories.get(directory);
    const waiters = watched?.waiters.get(id);
    waiters?.delete(waiter);
    if (waiters?.size === 0) watched?.waiters.delete(id);
    if (watched?.waiters.size === 0) {
      watched.watcher?.close();
      this.#directories.delete(directory);
    }
    if (this.#directories.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #poll(): void {
    for (const { waiters } of this.#directories.values()) {
      for (const set of waiters.values()) {
        for (const waiter of set) if (!waiter.supervisorAlive()) waiter.wake();
      }
    }
  }
}

/** Without a watch (limit of inotify instances reached, directory missing) the timer alone still finds every exit. */
function openWatcher(directory: string, waiters: ReadonlyMap<string, ReadonlySet<Waiter>>): FSWatcher | undefined {
  try {
    const watcher = watch(directory, { persistent: false }, (_event, name) => {
      const heard = name === null ? [...waiters.values()] : [waiters.get(name) ?? new Set<Waiter>()];
      for (const set of heard) for (const waiter of set) waiter.wake();
    });
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch {
    return undefined;
  }
}
