/** The rules of assignments and attempts, and the protocol without each of them. */
export interface Rules {
  /** The intent is durable before anything acts on it (D2). */
  readonly intentFirst: boolean;
  /** What is older than the newest known execution is ignored (D2). */
  readonly olderIgnored: boolean;
  /** A stop of what was never heard of is remembered, so that its late job does nothing (D2). */
  readonly tombstones: boolean;
  /** A result is committed for the execution that it names only (D3). */
  readonly resultsByExecution: boolean;
  /** Entries are stored in the journal's order, each once (D4). */
  readonly entriesInOrder: boolean;
  /** A set older than the applied one is refused (D5). */
  readonly olderSetsRefused: boolean;
  /** A set does not stop what a newer job asked for (D5). */
  readonly newerJobsSpared: boolean;
  /** Absence stops only in a store whose stops are confirmed (D5). */
  readonly stopsConfirmed: boolean;
  /** Absence stops only what the fleet door made (D5). */
  readonly ownOnly: boolean;
  /** Silence changes what is known of a task, never its phase (D6). */
  readonly silenceIsNoEnd: boolean;
}

export const PROTOCOL: Rules = {
  intentFirst: true,
  olderIgnored: true,
  tombstones: true,
  resultsByExecution: true,
  entriesInOrder: true,
  olderSetsRefused: true,
  newerJobsSpared: true,
  stopsConfirmed: true,
  ownOnly: true,
  silenceIsNoEnd: true,
};

interface Mutation {
  readonly rules: Partial<Rules>;
  /** What the explorer says of it. */
  readonly harm: RegExp;
}

export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  "the intent written after acting": { rules: { intentFirst: false }, harm: /started 2 times/ },
  "older executions taken": { rules: { olderIgnored: false }, harm: /started after a newer one was known/ },
  "a stop of what is unknown forgotten": { rules: { tombstones: false }, harm: /started after its stop was taken/ },
  "results taken for whatever is current": { rules: { resultsByExecution: false }, harm: /the node says otherwise/ },
  "entries stored as they come": { rules: { entriesInOrder: false }, harm: /changed from ended/ },
  "older sets taken": { rules: { olderSetsRefused: false }, harm: /took revision/ },
  "sets stop what newer jobs asked for": { rules: { newerJobsSpared: false }, harm: /stopped though it is wanted/ },
  "a restored store stops at once": { rules: { stopsConfirmed: false }, harm: /stopped by an unconfirmed store/ },
  "absence stops whatever runs": { rules: { ownOnly: false }, harm: /foreign container was stopped/ },
  "silence shown as failure": { rules: { silenceIsNoEnd: false }, harm: /the node says otherwise/ },
};
