/**
 * A fleet for seeded trouble, reused by many runs: its servers, a ledger that containers write into, wall clocks that can be
 * put off, and a database that notes by itself what must never happen.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lifetime } from "@berth/base";
import { openStore, type Store } from "@berth/store";
import { runCli, startFleet, type Fleet } from "@berth/testkit";
import postgres, { type Sql } from "postgres";
import { pushHello } from "../../support/fleet.ts";

export interface Lab extends AsyncDisposable {
  readonly fleet: Fleet;
  readonly sql: Sql;
  /** The same database, for invariants that drills judge by, too. */
  readonly store: Store;
  readonly image: string;
  /** On the machine; every container has it as /ledger. */
  readonly ledger: string;
  /** The real `berth`, asking one controller after the other, soon giving up when one does not answer; a code other than 0 throws. */
  berth(args: readonly string[], input?: string): Promise<string>;
  /** Puts the wall clocks of these programs off (`controller`, `controller-2`, `node-1`…); default all. */
  readonly setClockOffset: (offsetMs: number, programs?: readonly string[]) => void;
  /** Controllers and agents. */
  readonly programs: readonly string[];
}

const ANSWER_MS = 8_000;
const DATA_BYTES = 384 * 1024 * 1024;

export interface LabOptions {
  /** Default 2. */
  readonly nodes?: number;
  /** Default 1. */
  readonly controllers?: number;
}

export async function openLab({ nodes = 2, controllers = 1 }: LabOptions = {}): Promise<Lab> {
  const lifetime = new Lifetime();
  const clocks = mkdtempSync("/dev/shm/berth-chaos-clocks-");
  lifetime.defer(() => rmSync(clocks, { recursive: true, force: true }));
  const programs: string[] = [];
  const setClockOffset = (offsetMs: number, of: readonly string[] = programs): void => {
    for (const program of of) writeFileSync(join(clocks, program), String(offsetMs), { mode: 0o600 });
  };
  try {
    const fleet = lifetime.own(
      await startFleet({
        nodes,
        controllers,
        leaseTtlMs: 2_000,
        dataBytes: DATA_BYTES,
        env: (program) => {
          programs.push(program);
          return {
            CHAOS_CLOCK_FILE: join(clocks, program),
            // Whoever kills an agent here starts it again.
            BERTH_SUPERVISED: "true",
            NODE_OPTIONS: `--import=${join(import.meta.dirname, "clock-offset.js")}`,
          };
        },
      }),
    );
    const image = await pushHello(fleet);
    const ledger = join(fleet.dir, "ledger");
    mkdirSync(ledger);
    await fleet.berth(["ns", "create", "demo"]);
    await fleet.berth(["-n", "demo", "pull", image]);
    const sql = postgres(fleet.postgres.url, { max: 2, onnotice: () => {} });
    lifetime.defer(() => sql.end({ timeout: 1 }));
    await sql.unsafe(WATCHES);
    const store = lifetime.own(await openStore({ url: fleet.postgres.url, migrate: false, maxConnections: 2 }));
    let turn = 0;
    const berth = async (args: readonly string[], input?: string): Promise<string> => {
      turn += 1;
      const { grpcEndpoint: endpoint } = fleet.controllers[turn % controllers]!;
      const settings = { endpoint, token: fleet.token(), home: join(fleet.dir, "home") };
      const { code, stdout, stderr } = await runCli(args, { ...settings, input, timeoutMs: ANSWER_MS });
      if (code !== 0) throw new Error(`berth ${args.join(" ")} ended with ${code}: ${stderr || stdout}`);
      return stdout;
    };
    return {
      fleet,
      berth,
      sql,
      store,
      image,
      ledger,
      setClockOffset,
      programs,
      [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
    };
  } catch (error) {
    await lifetime[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * D3: terminal states never change, also in rows whose change was told to nobody (`changedEnds` goes by the history). D5: revisions
 * never go back. D6: what cannot be reached has not failed.
 */
const WATCHES = `
  create table chaos_violations (at timestamptz not null default now(), what text not null);
  create function chaos_watch_task() returns trigger language plpgsql as $$
  begin
    if new.generation = old.generation and new.attempt = old.attempt then
      if old.phase in ('Succeeded', 'Failed', 'Stopped') and new.phase <> old.phase then
        insert into chaos_violations (what) values (format('task %s %s.%s changed from %s to %s', new.name, new.generation, new.attempt, old.phase, new.phase));
      end if;
      if old.exit_code is not null and new.exit_code is distinct from old.exit_code then
        insert into chaos_violations (what) values (format('task %s %s.%s: exit code %s became %s', new.name, new.generation, new.attempt, old.exit_code, new.exit_code));
      end if;
    end if;
    if new.phase = 'Failed' and new.certainty = 'unreachable' then
      insert into chaos_violations (what) values (format('task %s failed though its node is only silent', new.name));
    end if;
    return null;
  end $$;
  create trigger chaos_watch_task after update on tasks for each row execute function chaos_watch_task();
  create function chaos_watch_node() returns trigger language plpgsql as $$
  begin
    if new.assignment_revision < old.assignment_revision then
      insert into chaos_violations (what) values (format('node %s: revision %s after %s', new.name, new.assignment_revision, old.assignment_revision));
    end if;
    return null;
  end $$;
  create trigger chaos_watch_node after update on nodes for each row execute function chaos_watch_node();`;
