/** A private Postgres for a test file, and fresh databases in it. */
import { scratchDir, startPostgres } from "@berth/testkit/servers";
import { openStore, type Store } from "../open.ts";

export interface TestPostgres extends AsyncDisposable {
  /** Opens a store on a new, empty database. */
  open(): Promise<Store & { readonly url: string }>;
  /** A new, empty database without a schema; its URL. */
  database(): Promise<string>;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export async function startTestPostgres(): Promise<TestPostgres> {
  const scratch = scratchDir("berth-store");
  const postgres = await startPostgres({ dir: scratch.dir });
  let count = 0;
  const create = (): Promise<string> => {
    count += 1;
    return postgres.createDatabase(`test${count}`);
  };
  return {
    async open() {
      const url = await create();
      return Object.assign(await openStore({ url }), { url });
    },
    database: create,
    stop: () => postgres.stop(),
    start: () => postgres.start(),
    async [Symbol.asyncDispose]() {
      await postgres[Symbol.asyncDispose]();
      scratch[Symbol.dispose]();
    },
  };
}
