/** `berthd images …` */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ImagePinSchema, ImageSchema, ImageService } from "@berth/proto/host";
import { ageOf, labelsOf, parseDuration, printJson, printList, shortDigest, timeOf, type Session } from "./session.ts";

export async function list(session: Session, filters: readonly string[]): Promise<void> {
  const { namespace } = session;
  const { images } = await session.client(ImageService).listImages({ namespace, filters: [...filters] });
  printList(session, ImageSchema, images, [
    { heading: "NAME", cell: ({ name }) => name },
    { heading: "DIGEST", cell: ({ target }) => shortDigest(target?.digest ?? "") },
    { heading: "UPDATED", cell: ({ updatedAt }) => ageOf(updatedAt) },
    { heading: "LABELS", cell: ({ labels }) => labelsOf(labels) },
  ]);
}

export async function tag(session: Session, image: string, name: string): Promise<void> {
  const { namespace } = session;
  const tagged = await session.client(ImageService).tagImage({ namespace, image, tag: name });
  if (session.json) return printJson(session, ImageSchema, tagged);
  session.out(`${tagged.name} ${tagged.target?.digest ?? ""}`);
}

export async function remove(session: Session, names: readonly string[]): Promise<void> {
  const { namespace } = session;
  const client = session.client(ImageService);
  for (const image of names) {
    await client.removeImage({ namespace, image });
    session.out(image);
  }
}

export async function pin(
  session: Session,
  image: string,
  options: { readonly for?: string; readonly holder?: string },
): Promise<void> {
  const { namespace } = session;
  const lasts = options.for === undefined ? undefined : parseDuration(options.for, "--for");
  const pinned = await session.client(ImageService).pinImage({
    namespace,
    image,
    holder: options.holder ?? "",
    ...(lasts === undefined ? {} : { until: timestampFromMs(Date.now() + lasts) }),
  });
  if (session.json) return printJson(session, ImagePinSchema, pinned);
  session.out(`${pinned.image} pinned${pinned.until === undefined ? "" : ` until ${timeOf(pinned.until)}`}`);
}

export async function unpin(session: Session, image: string, options: { readonly holder?: string }): Promise<void> {
  const { namespace } = session;
  await session.client(ImageService).unpinImage({ namespace, image, holder: options.holder ?? "" });
  session.out(`${image} unpinned`);
}

export async function pins(session: Session): Promise<void> {
  const found = await session.client(ImageService).listPins({ namespace: session.namespace });
  printList(session, ImagePinSchema, found.pins, [
    { heading: "IMAGE", cell: ({ image }) => image },
    { heading: "HOLDER", cell: ({ holder }) => holder },
    { heading: "UNTIL", cell: ({ until }) => timeOf(until) },
  ]);
}
