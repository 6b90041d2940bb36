/**
 * Brings one container up, step by step, and takes it down again. It keeps no state and writes no rows: whoever calls it
 * has recorded the container before and records the outcome after.
 */
import { noFailpoints, StatusError, throwIfAborted, type Failpoint } from "@berth/base";
import type { Container } from "./container.ts";
import type { OperationObserver } from "./operations.ts";
import { observed } from "./operations.ts";
import type { StartContext, StartFacts, Step } from "./steps/index.ts";

export interface RunnerDeps {
  readonly steps: readonly Step[];
  readonly observer: OperationObserver;
  readonly failpoint?: Failpoint;
}

/** A step that failed: `reason` is the stable word of the journal. */
export class StartFailure extends Error {
  readonly reason: string;
  readonly status: StatusError;

  constructor(step: Step, cause: unknown) {
    const status = StatusError.from(cause);
    super(status.message, { cause });
    this.reason = step.failure;
    this.status = status;
  }
}

export class ContainerRunner {
  readonly #steps: readonly Step[];
  readonly #observer: OperationObserver;
  readonly #failpoint: Failpoint;

  constructor({ steps, observer, failpoint = noFailpoints }: RunnerDeps) {
    this.#steps = steps;
    this.#observer = observer;
    this.#failpoint = failpoint;
  }

  /**
   * All steps, in order, over whatever an earlier try has left. `onStep` is awaited before each.
   * @throws StartFailure; what has been made stays for {@link tearDown}. The signal's reason when cancelled.
   */
  async start(
    container: Container,
    options: {
      readonly signal: AbortSignal;
      readonly onPulling: StartContext["onPulling"];
      readonly onWarning: StartContext["onWarning"];
      readonly onStep: (step: Step["name"]) => Promise<void>;
    },
  ): Promise<StartFacts> {
    const facts: StartFacts = {};
    const { signal, onPulling, onWarning } = options;
    const context: StartContext = { container, facts, signal, onPulling, onWarning };
    for (const step of this.#steps) {
      throwIfAborted(options.signal);
      await options.onStep(step.name);
      try {
        await this.#observed(step, () => step.run(context));
      } catch (error) {
        throwIfAborted(options.signal);
        throw new StartFailure(step, error);
      }
      this.#failpoint(`engine.after-${step.name}`);
    }
    return facts;
  }

  /** Removes everything of it but its log. All undos run even when one fails. @throws the first failure; then call again. */
  async tearDown(container: Container): Promise<void> {
    const failures: unknown[] = [];
    await observed(this.#observer, "remove_container", async () => {
      for (const step of this.#steps.toReversed()) {
        await step.undo(container).catch((error: unknown) => failures.push(error));
      }
      if (failures.length > 0) throw failures[0];
    });
  }

  #observed(step: Step, body: () => Promise<void>): Promise<void> {
    if (step.name === "network") return observed(this.#observer, "attach_network", body);
    if (step.name === "create") return observed(this.#observer, "create_container", body);
    if (step.name === "start") return observed(this.#observer, "start_container", body);
    return body();
  }
}
