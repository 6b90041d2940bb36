/**
 * Stream processors: programs that turn a layer of one media type into one of another, as containerd has them (imgcrypt's
 * decryption is one). Configured by an operator; run as `program args…` with the layer on stdin and the result on stdout.
 *
 * As containerd's contract has it (diff/stream_unix.go): the media type of the input stands in `STREAM_PROCESSOR_MEDIATYPE`, and
 * a payload, where there is one (imgcrypt's is an encoded google.protobuf.Any with the layer's keys), can be read from
 * descriptor 3. Other than there, the agent's own environment is not passed on, only PATH.
 */
import { StatusError } from "@berth/base";
import { startFilter } from "./filter-process.ts";
import { streamStage, type OnData, type Stage } from "./stream-stage.ts";

/** Structured-cloneable: it travels to the worker with the job. */
export interface StreamProcessor {
  /** Names it in errors and logs. */
  readonly id: string;
  /** Media types it takes. */
  readonly accepts: readonly string[];
  /** The media type of what it gives. */
  readonly returns: string;
  /** Absolute path. */
  readonly program: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** For descriptor 3. */
  readonly payload?: Uint8Array;
}

/** Longer chains are circles. */
const MAX_CHAIN = 8;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** One link of a chain: a processor and the media type that it gets. */
export interface ProcessorStep {
  readonly processor: StreamProcessor;
  readonly mediaType: string;
}

/**
 * Which processors a layer goes through, in order, none for a media type that no processor takes.
 * @throws FAILED_PRECONDITION `STREAM_PROCESSORS_INVALID` for processors that lead in a circle
 */
export function planProcessors(mediaType: string, processors: readonly StreamProcessor[]): ProcessorStep[] {
  const steps: ProcessorStep[] = [];
  for (let type = mediaType; ;) {
    const processor = processors.find(({ accepts }) => accepts.includes(type));
    if (processor === undefined) return steps;
    if (steps.length === MAX_CHAIN) {
      const text = `stream processors for ${mediaType} lead in a circle: ${steps.map((step) => step.processor.id).join(", ")}`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "STREAM_PROCESSORS_INVALID" });
    }
    steps.push({ processor, mediaType: type });
    type = processor.returns;
  }
}

export function processorStage({ processor, mediaType }: ProcessorStep, onData: OnData): Stage {
  const { id, program, args = [], env, payload } = processor;
  const filter = startFilter(program, args, {
    env: { PATH, ...env, STREAM_PROCESSOR_MEDIATYPE: mediaType },
    payload,
  });
  const stage = streamStage(filter.input, filter.output, filter.ended, `"${id}" processed`, onData);
  return {
    ...stage,
    destroy() {
      filter.kill();
      stage.destroy();
    },
  };
}
