/** `berthd pull`: an image onto this host, followed until it is unpacked. Ctrl-C calls it off. */
import { StatusError } from "@berth/base";
import { ImageService, UnpackedImageSchema, type UnpackedImage } from "@berth/proto/host";
import { createProgressView } from "./progress-view.ts";
import { printJson, type Session } from "./session.ts";

export interface PullOptions {
  readonly snapshotter?: string;
  readonly unpack: boolean;
  readonly lease?: string;
}

export async function pull(session: Session, image: string, options: PullOptions): Promise<void> {
  const done = await follow(session, image, options);
  if (session.json) return printJson(session, UnpackedImageSchema, done);
  const how = done.artifactType !== "" ? "stored" : options.unpack ? `unpacked with ${done.snapshotter}` : "fetched";
  session.out(`${done.image?.name ?? image} ${done.image?.target?.digest ?? ""} ${how}`);
}

async function follow(session: Session, image: string, options: PullOptions): Promise<UnpackedImage> {
  const { namespace } = session;
  const request = {
    namespace,
    image,
    snapshotter: options.snapshotter ?? "",
    skipUnpack: !options.unpack,
    lease: options.lease ?? "",
  };
  using view = createProgressView(session, image);
  for await (const { event } of session.client(ImageService).pullImage(request)) {
    if (event.case === "progress") view.update(event.value);
    if (event.case === "done") return event.value;
  }
  throw new StatusError("UNAVAILABLE", `berthd ended before ${image} was pulled; pull it again`, {
    reason: "PULL_CUT_OFF",
  });
}
