/** `berthd images …` */
import { ImageSchema, ImageService } from "@berth/proto/host";
import { ageOf, labelsOf, printFields, printJson, printList, shortDigest, timeOf, type Session } from "./session.ts";

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

export async function inspect(session: Session, name: string): Promise<void> {
  const { namespace } = session;
  const image = await session.client(ImageService).getImage({ namespace, image: name });
  if (session.json) return printJson(session, ImageSchema, image);
  printFields(session, [
    ["Name", image.name],
    ["Digest", image.target?.digest ?? "-"],
    ["Type", image.target?.mediaType ?? "-"],
    ["Labels", labelsOf(image.labels)],
    ["Created", timeOf(image.createdAt)],
    ["Updated", timeOf(image.updatedAt)],
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
