/** Registry clients of a worker thread, kept from one layer to the next: a new one would mean a new connection for each. */
import { openSession, type RegistryClient, type RegistrySession } from "@berth/registry/session";

const KEPT = 4;

interface Kept {
  readonly client: RegistryClient;
  users: number;
}

export interface BorrowedClient extends AsyncDisposable {
  readonly client: RegistryClient;
}

export class SessionClients {
  /** In the order of last use. What lies in shared memory is the same for all sessions of a client, and not in the key. */
  readonly #kept = new Map<string, Kept>();

  borrow(session: RegistrySession): BorrowedClient {
    const key = JSON.stringify(session);
    const kept = this.#kept.get(key) ?? { client: openSession(session), users: 0 };
    kept.users += 1;
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    return {
      client: kept.client,
      [Symbol.asyncDispose]: async () => {
        kept.users -= 1;
        await this.#drop();
      },
    };
  }

  async #drop(): Promise<void> {
    for (const [key, { client, users }] of this.#kept) {
      if (this.#kept.size <= KEPT) return;
      if (users > 0) continue;
      this.#kept.delete(key);
      await client[Symbol.asyncDispose]();
    }
  }
}
