/**
 * Image references: `[host[:port]/]repository[:tag][@digest]`, normalised as Docker and containerd do it: no host means
 * docker.io, one path component there means `library/`, neither tag nor digest means `latest`.
 */
import { isDigest, StatusError, type Digest } from "@berth/base";

export interface ImageReference {
  /** `host[:port]` as written, `docker.io` when left out. */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const HOST =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const MAX_NAME_LENGTH = 255;

/** @throws INVALID_ARGUMENT `IMAGE_REFERENCE_INVALID` that says what is wrong with which part. */
export function parseImageReference(text: string): ImageReference {
  const fail = (why: string): never => {
    throw new StatusError("INVALID_ARGUMENT", `image ${JSON.stringify(text)}: ${why}`, {
      reason: "IMAGE_REFERENCE_INVALID",
    });
  };
  if (text === "") fail("is empty; give repository[:tag] or repository@sha256:…");
  let rest = text;
  let digest: Digest | undefined;
  const at = rest.indexOf("@");
  if (at >= 0) {
    const candidate = rest.slice(at + 1);
    if (isDigest(candidate)) digest = candidate;
    else fail(`${JSON.stringify(candidate)} is not a digest of the form sha256:<64 hex digits>`);
    rest = rest.slice(0, at);
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(":");
  if (colon > rest.lastIndexOf("/")) {
    tag = rest.slice(colon + 1);
    if (!TAG.test(tag)) fail(`tag ${JSON.stringify(tag)} is not 1-128 of letters, digits, ".", "_" and "-"`);
    rest = rest.slice(0, colon);
  }
  const [registry, path] = splitRegistry(rest);
  if (!HOST.test(registry)) fail(`registry ${JSON.stringify(registry)} is not a host or host:port`);
  const repository = registry === "docker.io" && path !== "" && !path.includes("/") ? `library/${path}` : path;
  if (repository.length > MAX_NAME_LENGTH) fail(`the repository name is longer than ${MAX_NAME_LENGTH} characters`);
  for (const component of repository.split("/")) {
    if (!COMPONENT.test(component)) {
      const hint = /[A-Z]/.test(component) ? " (upper-case letters are not allowed)" : "";
      fail(
        `repository part ${JSON.stringify(component)} is not lower-case letters and digits joined by ".", "_" or "-"${hint}`,
      );
    }
  }
  return { registry, repository, tag: tag ?? (digest === undefined ? "latest" : undefined), digest };
}

/** The normalised text; `parseImageReference` of it gives the same reference. */
export function formatImageReference(ref: ImageReference): string {
  const tag = ref.tag === undefined ? "" : `:${ref.tag}`;
  const digest = ref.digest === undefined ? "" : `@${ref.digest}`;
  return `${ref.registry}/${ref.repository}${tag}${digest}`;
}

/** The normalised text of what a user wrote. */
export function normaliseImage(text: string): string {
  return formatImageReference(parseImageReference(text));
}

function splitRegistry(name: string): [registry: string, path: string] {
  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  const isHost = first.includes(".") || first.includes(":") || first === "localhost";
  if (!isHost) return ["docker.io", name];
  const registry = first === "index.docker.io" ? "docker.io" : first;
  return [registry, name.slice(slash + 1)];
}
