/** {@link ImageTransfer}, composed: each transfer with pins, a thread and a progress of its own. */
import type { Readable, Writable } from "node:stream";
import { anySignal } from "@berth/base";
import type { TransferContext, TransferDeps } from "./context.ts";
import { exportImages } from "./export.ts";
import { importImages } from "./import.ts";
import { pushImage } from "./push.ts";
import { TransferThread } from "./transfer-thread.ts";
import { TransferTracker } from "./transfer-progress.ts";
import type {
  ExportRequest,
  ExportResult,
  ImageTransfer,
  ImportRequest,
  ImportResult,
  PushRequest,
  PushResult,
  TransferProgress,
} from "./transfer.ts";

const IDLE_MS = 30_000;

interface TransferRequest {
  readonly namespace: string;
  readonly lease?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}

export class Transfers implements ImageTransfer, AsyncDisposable {
  readonly #deps: TransferDeps;
  readonly #running = new Set<Promise<unknown>>();
  readonly #idle = new Map<TransferThread, NodeJS.Timeout>();

  constructor(deps: TransferDeps) {
    this.#deps = deps;
  }

  async import(request: ImportRequest): Promise<ImportResult> {
    const stream = request.source.kind === "stream" ? request.source.stream : undefined;
    using _ = owned(stream);
    return await this.#run(request, async (transfer, progress) => {
      try {
        return await importImages(transfer, request, progress);
      } catch (error) {
        await this.#deps.giveBack(transfer.namespace, transfer.pins, "a failed import");
        throw error;
      }
    });
  }

  async export(request: ExportRequest): Promise<ExportResult> {
    using _ = owned(request.target.kind === "stream" ? request.target.stream : undefined);
    return await this.#run(request, (transfer, progress) => exportImages(transfer, request, progress));
  }

  async push(request: PushRequest): Promise<PushResult> {
    return await this.#run(request, (transfer, progress) => pushImage(transfer, request, progress));
  }

  /** Waits for what runs; `closing` of the deps has ended it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#running);
    for (const timer of this.#idle.values()) clearTimeout(timer);
    await Promise.all([...this.#idle.keys()].map((thread) => thread[Symbol.asyncDispose]()));
  }

  async #run<T>(
    request: TransferRequest,
    body: (transfer: TransferContext, progress: TransferTracker) => Promise<T>,
  ): Promise<T> {
    const running = this.#withParts(request, body);
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #withParts<T>(
    { namespace, lease, signal, onProgress }: TransferRequest,
    body: (transfer: TransferContext, progress: TransferTracker) => Promise<T>,
  ): Promise<T> {
    const deps = this.#deps;
    await using hold = await deps.hold(namespace, lease);
    await using thread = this.#thread();
    const progress = new TransferTracker(onProgress, () => deps.shared.clock.monotonicMs());
    const both = anySignal(deps.closing, signal);
    return await body({ deps, namespace, pins: hold.pins, thread: thread.thread, signal: both, progress }, progress);
  }

  /** One that is idle, or another; given back at the end. */
  #thread(): AsyncDisposable & { readonly thread: TransferThread } {
    const [idle] = this.#idle.keys();
    const thread = idle ?? new TransferThread();
    clearTimeout(this.#idle.get(thread));
    this.#idle.delete(thread);
    const giveBack = async (): Promise<void> => {
      if (!thread.usable || this.#deps.closing.aborted) return await thread[Symbol.asyncDispose]();
      const leave = (): void => {
        this.#idle.delete(thread);
        void thread[Symbol.asyncDispose]();
      };
      this.#idle.set(thread, setTimeout(leave, IDLE_MS).unref());
    };
    return { thread, [Symbol.asyncDispose]: giveBack };
  }
}

/** A client's stream: its errors are heard from the first moment on, and it does not outlive what it was given to. */
function owned(stream: Readable | Writable | undefined): Disposable {
  stream?.on("error", () => {});
  return { [Symbol.dispose]: () => void stream?.destroy() };
}
