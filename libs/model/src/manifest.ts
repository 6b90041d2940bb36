/**
 * Reading manifests, indexes and image configs that a registry sent: untrusted JSON in, the types of `oci.ts` out.
 *
 * Invariants: nothing unchecked gets through; sizes and counts are bounded before anything is built from them; a document
 * that could be read as two things (an index and a manifest, CVE-2021-41190) is refused. Unknown fields are left out.
 */
import { isDigest, StatusError, type Digest } from "@berth/base";
import { JsonFields } from "./json-fields.ts";
import { MEDIA_TYPES, type Descriptor, type OciImageConfig, type OciIndex, type OciManifest } from "./oci.ts";

/** What may at most be in a document; far above what real images have. */
export const MANIFEST_LIMITS = {
  manifestBytes: 4 * 1024 * 1024,
  configBytes: 8 * 1024 * 1024,
  layers: 500,
  indexEntries: 2_000,
  listEntries: 20_000,
} as const;

export type ManifestDocument =
  | { readonly kind: "index"; readonly mediaType: string; readonly index: OciIndex }
  | { readonly kind: "manifest"; readonly mediaType: string; readonly manifest: OciManifest };

const INDEX_TYPES: ReadonlySet<string> = new Set([MEDIA_TYPES.ociIndex, MEDIA_TYPES.dockerIndex]);
const MANIFEST_TYPES: ReadonlySet<string> = new Set([MEDIA_TYPES.ociManifest, MEDIA_TYPES.dockerManifest]);
const SCHEMA_1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+/;

export function isIndexType(mediaType: string): boolean {
  return INDEX_TYPES.has(mediaType);
}

export function isManifestType(mediaType: string): boolean {
  return MANIFEST_TYPES.has(mediaType);
}

/**
 * A manifest or an index, whichever the bytes are.
 * @param contentType what the server called it; used where the document does not say itself
 * @param subject names the document in errors, such as `registry.example/app:1`
 * @throws INVALID_ARGUMENT `MANIFEST_UNSUPPORTED` (schema 1, another kind of document), `MANIFEST_INVALID` (a wrong field)
 */
export function parseManifest(bytes: Uint8Array, subject: string, contentType?: string): ManifestDocument {
  const fields = parseJson(bytes, MANIFEST_LIMITS.manifestBytes, `manifest of ${subject}`, "MANIFEST_INVALID");
  const mediaType = manifestType(fields, contentType, subject);
  if (isIndexType(mediaType)) {
    const manifests = fields.list("manifests", MANIFEST_LIMITS.indexEntries).map(parseDescriptor);
    return { kind: "index", mediaType, index: { schemaVersion: 2, mediaType, manifests } };
  }
  const config = parseDescriptor(fields.object("config"));
  const layers = fields.list("layers", MANIFEST_LIMITS.layers).map(parseDescriptor);
  const artifactType = present("artifactType", fields.optionalText("artifactType") || undefined);
  return { kind: "manifest", mediaType, manifest: { schemaVersion: 2, mediaType, ...artifactType, config, layers } };
}

/** @throws INVALID_ARGUMENT `IMAGE_CONFIG_INVALID` */
export function parseImageConfig(bytes: Uint8Array, subject: string): OciImageConfig {
  const fields = parseJson(bytes, MANIFEST_LIMITS.configBytes, `image config of ${subject}`, "IMAGE_CONFIG_INVALID");
  const rootfs = fields.object("rootfs");
  if (rootfs.text("type") !== "layers") throw rootfs.wrong("type", `is not "layers"`);
  const config = fields.optionalObject("config");
  return {
    architecture: fields.text("architecture"),
    os: fields.text("os"),
    ...present("variant", fields.optionalText("variant")),
    ...present("created", fields.optionalText("created")),
    ...present("config", config === undefined ? undefined : parseRunConfig(config)),
    rootfs: { type: "layers", diff_ids: parseDiffIds(rootfs) },
  };
}

function parseRunConfig(fields: JsonFields): NonNullable<OciImageConfig["config"]> {
  const max = MANIFEST_LIMITS.listEntries;
  return {
    ...present("User", fields.optionalText("User")),
    ...present("Env", fields.optionalTexts("Env", max)),
    ...present("Entrypoint", fields.optionalTexts("Entrypoint", max)),
    ...present("Cmd", fields.optionalTexts("Cmd", max)),
    ...present("WorkingDir", fields.optionalText("WorkingDir")),
    ...present("Labels", fields.optionalTextMap("Labels", max)),
    ...present("StopSignal", fields.optionalText("StopSignal")),
    ...present("ExposedPorts", fields.optionalKeySet("ExposedPorts", max)),
    ...present("Volumes", fields.optionalKeySet("Volumes", max)),
  };
}

function parseDiffIds(rootfs: JsonFields): Digest[] {
  return rootfs.texts("diff_ids", MANIFEST_LIMITS.layers).map((text, index) => {
    if (!isDigest(text)) throw rootfs.wrong(`diff_ids[${index}]`, "is not a digest of the form sha256:<64 hex digits>");
    return text;
  });
}

function parseDescriptor(fields: JsonFields): Descriptor {
  const digest = fields.text("digest");
  if (!isDigest(digest)) throw fields.wrong("digest", "is not a digest of the form sha256:<64 hex digits>");
  const platform = fields.optionalObject("platform");
  const annotations = fields.optionalTextMap("annotations", MANIFEST_LIMITS.listEntries);
  return {
    mediaType: fields.text("mediaType"),
    digest,
    size: fields.size("size"),
    ...present("platform", platform === undefined ? undefined : parsePlatform(platform)),
    ...present("annotations", annotations),
  };
}

function parsePlatform(fields: JsonFields): NonNullable<Descriptor["platform"]> {
  return {
    os: fields.text("os"),
    architecture: fields.text("architecture"),
    ...present("variant", fields.optionalText("variant")),
  };
}

function manifestType(fields: JsonFields, contentType: string | undefined, subject: string): string {
  const claimed = fields.optionalText("mediaType") || known(contentType);
  const unsupported = (what: string): StatusError =>
    new StatusError("INVALID_ARGUMENT", `manifest of ${subject} ${what}`, { reason: "MANIFEST_UNSUPPORTED" });
  const version = fields.raw("schemaVersion");
  if (version === 1 || SCHEMA_1.test(claimed ?? "")) {
    throw unsupported("is Docker schema 1, which cannot be verified; push the image again with a current tool");
  }
  if (version !== 2) throw fields.wrong("schemaVersion", "is not 2");
  const index = fields.raw("manifests") !== undefined;
  const manifest = fields.raw("layers") !== undefined || fields.raw("config") !== undefined;
  if (index && manifest) throw unsupported("has both manifests and layers, so that it could be read in two ways");
  const guessed = index ? MEDIA_TYPES.ociIndex : MEDIA_TYPES.ociManifest;
  const mediaType = claimed ?? guessed;
  if (!isIndexType(mediaType) && !isManifestType(mediaType)) {
    throw unsupported(`is a ${mediaType}, neither an image manifest nor an index`);
  }
  if (isIndexType(mediaType) !== index) throw unsupported(`calls itself ${mediaType} but does not look like one`);
  const served = known(contentType);
  if (served !== undefined && served !== mediaType) {
    throw unsupported(`was served as ${served} but calls itself ${mediaType}`);
  }
  return mediaType;
}

/** The media type of a Content-Type header, if it is one that says something here. */
function known(contentType: string | undefined): string | undefined {
  const type = contentType?.split(";")[0]!.trim().toLowerCase();
  return type !== undefined && (isIndexType(type) || isManifestType(type) || SCHEMA_1.test(type)) ? type : undefined;
}

function parseJson(bytes: Uint8Array, maxBytes: number, subject: string, reason: string): JsonFields {
  const fail = (why: string, cause?: unknown): StatusError =>
    new StatusError("INVALID_ARGUMENT", `${subject} ${why}`, { reason, ...(cause === undefined ? {} : { cause }) });
  if (bytes.length > maxBytes) throw fail(`is ${bytes.length} bytes, more than the ${maxBytes} that are read`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    throw fail(looksLikeHtml(bytes) ? "is an HTML page, not JSON" : "is not valid JSON", error);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw fail("is not a JSON object");
  return new JsonFields(value as Record<string, unknown>, subject, "", reason);
}

function looksLikeHtml(bytes: Uint8Array): boolean {
  const start = new TextDecoder().decode(bytes.subarray(0, 256)).trimStart().toLowerCase();
  return start.startsWith("<!doctype html") || start.startsWith("<html");
}

function present<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: V };
}
