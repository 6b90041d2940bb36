/** Under which names an archive's images are recorded. */
import { StatusError } from "@berth/base";
import { formatImageReference, normaliseImage, parseImageReference } from "@berth/model";
import type { ImportRequest } from "./transfer.ts";

interface Named {
  readonly names: readonly string[];
}

const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/**
 * Each image with each of its names.
 * @throws INVALID_ARGUMENT `ARCHIVE_UNNAMED` where it is not known what to call one; NOT_FOUND for a wanted name that is not there
 */
export function importNames<T extends Named>(
  images: readonly T[],
  request: Pick<ImportRequest, "name" | "baseName" | "only">,
): readonly { readonly image: T; readonly name: string }[] {
  if (request.name !== undefined)
    return [{ image: onlyImage(images, request.name), name: normaliseImage(request.name) }];
  const only = request.only?.map(normaliseImage);
  const found = images.flatMap((image, index) => {
    if (image.names.length === 0) {
      if (only !== undefined) return [];
      throw unnamed(`image ${index + 1} of ${images.length} has no name; give one by "name" if it is the only one`);
    }
    return image.names.map((name) => ({ image, name: fullName(name, request.baseName) }));
  });
  const missing = only?.find((name) => !found.some((one) => one.name === name));
  if (missing !== undefined) {
    const there = found.map(({ name }) => name).slice(0, 20);
    const text = `archive: it has no image ${missing}; there is ${there.join(", ") || "none"}`;
    throw new StatusError("NOT_FOUND", text, { reason: "IMAGE_MISSING" });
  }
  const chosen = only === undefined ? found : found.filter(({ name }) => only.includes(name));
  if (chosen.length === 0) throw unnamed("it has no image");
  const twice = chosen.find(({ name }, at) => chosen.findIndex((one) => one.name === name) < at);
  if (twice !== undefined) throw unnamed(`it has several images named ${twice.name}; take one by "only" or "baseName"`);
  return chosen;
}

function onlyImage<T extends Named>(images: readonly T[], name: string): T {
  const [only, ...more] = images;
  if (only === undefined) throw unnamed("it has no image");
  if (more.length === 0) return only;
  throw unnamed(`it has ${images.length} images, so that they cannot all be named ${name}; leave "name" out`);
}

/** OCI layouts often name images by a tag alone. */
function fullName(name: string, baseName: string | undefined): string {
  const looksLikeTag = TAG.test(name) && !name.includes("/");
  if (looksLikeTag && baseName !== undefined) {
    const { registry, repository } = parseImageReference(baseName);
    return formatImageReference({ registry, repository, tag: name, digest: undefined });
  }
  if (looksLikeTag) {
    throw unnamed(`an image is named only by the tag ${JSON.stringify(name)}; say of which repository by "baseName"`);
  }
  return normaliseImage(name);
}

function unnamed(why: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", `archive: ${why}`, { reason: "ARCHIVE_UNNAMED" });
}
