/** What the controller does; each step is one transaction of the store. */
import type { Step } from "../explore.ts";
import type { Rules } from "./rules.ts";
import type { Scope } from "./scopes.ts";
import { leaseHeld } from "./node.ts";
import {
  blankNode,
  execName,
  execOf,
  nameOf,
  nodeName,
  withNode,
  withStore,
  type AssignmentSet,
  type State,
  TTL,
  type Store,
  type Version,
} from "./state.ts";

export function controllerSteps(state: State, rules: Rules, scope: Scope): Step<State>[] {
  const { maxExecs } = scope;
  const { store, nodes } = state;
  const steps: Step<State>[] = [];
  for (const [index, node] of nodes.entries()) {
    const of = nodeName(index);
    const stored = entryStored(state, index, rules);
    if (stored !== undefined) steps.push({ name: "EntryStored", of, next: stored });
    if (node.ghostOf !== undefined) continue;
    if (mayGive(state, index, rules, scope))
      steps.push({ name: "NameGiven", of, next: nameGiven(state, index, rules) });
    if (node.up) {
      steps.push({ name: "LeaseGranted", of, next: leaseGranted(state, index, rules, scope) });
      if (!rules.answerAfterWrite) {
        const { store } = state;
        const next = { ...leaseGranted(state, index, rules, scope), store };
        steps.push({ name: "LeaseGranted", of: `${of}, and the write fails`, next });
      }
    }
    if (node.up && isNews(state, index)) {
      steps.push({ name: "SetRead", of, next: withNode(state, index, { set: setOf(store, index, state) }) });
    }
    if (mayPlace(state, index, maxExecs)) steps.push({ name: "TaskPlaced", of, next: placed(state, index) });
    if (mayReplace(state, index, rules, maxExecs)) {
      steps.push({ name: "TaskReplaced", of, next: placed(state, index) });
    }
  }
  if (mayOrder(state, scope)) {
    steps.push({ name: "StopOrdered", of: execName(store.current), next: stopOrdered(state) });
  }
  if (store.hold === "restored") {
    const next = withStore(state, { hold: "confirmed", revision: store.revision.map((each) => each + 1) });
    steps.push({ name: "StoreConfirmed", of: "by an operator", next });
  }
  if (
    store.hold === "confirmed" &&
    nodes.every((node, index) => node.ghostOf !== undefined || store.clean[index] || isFenced(state, index, rules))
  ) {
    const next = withStore(state, { hold: "none", revision: store.revision.map((each) => each + 1) });
    steps.push({ name: "StoreReleased", of: "", next });
  }
  return steps;
}

/**
 * The write, and with it the answer: nobody believes in a lease that this store does not know. The request was sent just now:
 * one that was on its way for longer gives a shorter lease, so this is the hardest case. Between the write and the arrival of
 * the answer an agent can do only what it could have done before the write.
 */
function leaseGranted(state: State, index: number, rules: Rules, { lateAnswers }: Scope): State {
  const { now, store } = state;
  const answer = { epoch: store.epoch, revision: store.revision[index]!, sentAt: now };
  const answered = lateAnswers ? withNode(state, index, { lease: answer }) : leaseHeld(state, index, answer, rules);
  return withStore(answered, {
    leaseAt: replaceAt(store.leaseAt, index, now),
    clean: replaceAt(store.clean, index, store.clean[index]! || isClean(state, index)),
  });
}

/** The request says: this node has taken the newest set, and what it does not name is gone. */
function isClean({ store, nodes }: State, index: number): boolean {
  const { applied, execs } = nodes[index]!;
  if (!applied.confirmed || applied.epoch !== store.epoch || applied.revision !== store.revision[index]) return false;
  return execs.every((exec, at) => exec === "absent" || exec === "ended" || at === applied.run);
}

/** Reading once more what is taken already, or lies ready, changes nothing. */
function isNews({ store, nodes }: State, index: number): boolean {
  const { applied, set } = nodes[index]!;
  const known = (version: Version | undefined): boolean =>
    version?.epoch === store.epoch && version.revision === store.revision[index];
  return !known(applied) && !known(set);
}

function setOf(store: Store, index: number, state: State): AssignmentSet {
  const here = store.current >= 0 && state.placed[store.current]!.on === index;
  return {
    epoch: store.epoch,
    revision: store.revision[index]!,
    // What has ended is not begun by a node that knows nothing of it.
    run: here && store.wanted === "run" && !store.ended ? store.current : -1,
    stop: here && store.wanted === "stop" ? store.current : -1,
    confirmed: store.hold !== "restored",
    held: store.hold !== "none",
  };
}

/** The first execution, or one after an end that the store knows; on a node that is not silent. */
function mayPlace(state: State, index: number, maxExecs: number): boolean {
  const { store, placed } = state;
  if (store.hold !== "none" || placed.length >= maxExecs || isSilent(state, index)) return false;
  return store.current < 0 || store.ended;
}

/** Its node was silent for so long that its stopper has stopped it. */
function mayReplace(state: State, index: number, rules: Rules, maxExecs: number): boolean {
  const { store, placed } = state;
  if (store.hold !== "none" || placed.length >= maxExecs || store.current < 0 || store.ended) return false;
  const { on } = placed[store.current]!;
  return on !== index && !isSilent(state, index) && isFenced(state, on, rules);
}

function isSilent({ now, store }: State, index: number): boolean {
  return now >= store.leaseAt[index]! + TTL;
}

export function isFenced({ now, store }: State, index: number, rules: Rules): boolean {
  return now >= store.leaseAt[index]! + rules.replaceAfter;
}

function placed(state: State, index: number): State {
  const { store } = state;
  const before = store.current < 0 ? -1 : state.placed[store.current]!.on;
  const revision = store.revision.map((each, at) => (at === index || at === before ? each + 1 : each));
  const exec = { on: index, epoch: store.epoch, revision: revision[index]! };
  const next = withStore(state, { current: state.placed.length, wanted: "run", ended: false, revision });
  return { ...next, placed: [...state.placed, exec] };
}

/** Its node is silent, and its stopper has stopped what it ran; while a restored store is held, what nodes show decides. */
function mayGive(state: State, index: number, rules: Rules, { maxHeirs, maxExecs }: Scope): boolean {
  const { now, store, heirs, placed } = state;
  if (heirs >= maxHeirs || store.hold !== "none" || !isSilent(state, index)) return false;
  return now >= store.leaseAt[index]! + rules.giveAfter && (!rules.newNumbers || placed.length < maxExecs);
}

/** The agent that had the name goes on, unheard, and what it says of itself may still come. */
function nameGiven(state: State, index: number, rules: Rules): State {
  const { store, nodes, now, heirs } = state;
  const ghost = { ...nodes[index]!, ghostOf: index };
  const given = { ...withNode(state, index, blankNode(now)), heirs: heirs + 1 };
  const next = { ...given, nodes: [...given.nodes, ghost] };
  const runs =
    store.current >= 0 && !store.ended && store.wanted === "run" && state.placed[store.current]!.on === index;
  return runs && rules.newNumbers ? placed(next, index) : next;
}

function mayOrder({ store, ends }: State, { maxEnds }: Scope): boolean {
  return ends < maxEnds && store.current >= 0 && !store.ended && store.wanted === "run" && store.hold === "none";
}

/** A drain, a new spec, a smaller scale: the node is asked, and answers by its journal. */
function stopOrdered(state: State): State {
  const { store, placed } = state;
  const { on } = placed[store.current]!;
  const revision = replaceAt(store.revision, on, store.revision[on]! + 1);
  return { ...withStore(state, { wanted: "stop", revision }), ends: state.ends + 1 };
}

/** A journal's entry that says that an execution has ended. It comes late, and again. */
function entryStored(state: State, index: number, rules: Rules): State | undefined {
  const { store, nodes, placed } = state;
  if (store.current < 0 || store.ended) return undefined;
  const has = rules.endsByExecution
    ? placed[store.current]!.on === nameOf(state, index) && execOf(nodes[index]!, store.current) === "ended"
    : nodes[index]!.execs.includes("ended");
  return has ? withStore(state, { ended: true }) : undefined;
}

function replaceAt<T>(items: readonly T[], index: number, value: T): T[] {
  return items.map((each, at) => (at === index ? value : each));
}
