/** Verification by the host door: of all namespaces, for it is the host's. One at a time. */
import { create } from "@bufbuild/protobuf";
import { isDigest, StatusError } from "@berth/base";
import type { VerifyOptions, VerifyProgress, VerifyReport } from "@berth/images";
import { CareService, VerifyResponseSchema, type VerifyRequest, type VerifyResponse } from "@berth/proto/host";
import { implement, type CallContext, type Implementation } from "@berth/rpc";
import { followed } from "./followed.ts";

export interface CareDeps {
  readonly verify: (options: VerifyOptions) => Promise<VerifyReport>;
}

export function careService(deps: CareDeps): Implementation {
  let running = false;
  return implement(CareService, {
    async *verify(request, context) {
      const options = optionsOf(request);
      if (running) {
        throw new StatusError("FAILED_PRECONDITION", "a verification runs already; wait for its end", {
          reason: "VERIFY_RUNNING",
        });
      }
      running = true;
      try {
        yield* follow(deps, options, context);
      } finally {
        running = false;
      }
    },
  });
}

async function* follow(deps: CareDeps, options: VerifyOptions, context: CallContext): AsyncGenerator<VerifyResponse> {
  const verifying = followed(context.signal, (onProgress: (progress: VerifyProgress) => void, signal) =>
    deps.verify({ ...options, signal, onProgress }),
  );
  for await (const step of verifying) {
    const event =
      "done" in step
        ? { case: "done" as const, value: toReport(step.done) }
        : { case: "progress" as const, value: toProgress(step.progress) };
    yield create(VerifyResponseSchema, { event });
  }
}

function optionsOf({ repair, layers, rateBytesPerSecond, after }: VerifyRequest): VerifyOptions {
  const wrong = (field: string, description: string): StatusError => StatusError.invalid([{ field, description }]);
  if (after !== "" && !isDigest(after)) throw wrong("after", "is no digest");
  if (rateBytesPerSecond < 0n) throw wrong("rateBytesPerSecond", "is less than 0");
  const rate = rateBytesPerSecond === 0n ? {} : { rateBytesPerSecond: Number(rateBytesPerSecond) };
  return { repair, layers, ...rate, ...(after === "" ? {} : { after }) };
}

function toProgress({ phase, done, total, readBytes, cursor }: VerifyProgress) {
  return { phase, done: BigInt(done), total: BigInt(total), readBytes: BigInt(readBytes), cursor: cursor ?? "" };
}

function toReport({ blobs, readBytes, layers, problems }: VerifyReport) {
  return {
    blobs: BigInt(blobs),
    readBytes: BigInt(readBytes),
    layers: BigInt(layers),
    problems: problems.map((problem) => ({
      ...problem,
      namespaces: [...problem.namespaces],
      images: [...problem.images],
      snapshotter: problem.snapshotter ?? "",
      why: problem.why ?? "",
    })),
  };
}
