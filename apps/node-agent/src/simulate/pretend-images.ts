/** Images of one simulated node: names and sizes. An image has the same digest and size wherever it is pulled. */
import { createHash } from "node:crypto";
import { StatusError, type Clock, type Digest } from "@berth/base";
import type { SimulationProfile } from "@berth/config";
import type { Images, UnpackedImage } from "@berth/images";
import { normaliseImage } from "@berth/model";
import type { Chance } from "./chance.ts";

/** The one that simulated nodes say they have. */
export const SNAPSHOTTER = "overlayfs";

type PullRequest = Parameters<Images["pull"]>[0];

export class PretendImages implements Pick<Images, "pull" | "remove"> {
  readonly #node: string;
  readonly #profile: SimulationProfile["pull"];
  readonly #chance: Chance;
  readonly #clock: Clock;
  /** Sizes by namespace and image. */
  readonly #present = new Map<string, number>();
  readonly #absent = new Set<string>();
  #pulls = 0;

  constructor(
    node: string,
    deps: { readonly profile: SimulationProfile; readonly chance: Chance; readonly clock: Clock },
  ) {
    this.#node = node;
    this.#profile = deps.profile.pull;
    this.#chance = deps.chance;
    this.#clock = deps.clock;
  }

  /** Together, of what is here. */
  get sizeBytes(): number {
    let sum = 0;
    for (const size of this.#present.values()) sum += size;
    return sum;
  }

  /** The image, when it is here. */
  find(namespace: string, image: string): UnpackedImage | undefined {
    const key = keyOf(namespace, image);
    if (this.#present.has(key)) return this.#describe(namespace, image);
    const warm =
      !this.#absent.has(key) && this.#chance.happens(this.#profile.warm, "warm", this.#node, normaliseImage(image));
    return warm ? this.keep(namespace, image) : undefined;
  }

  /** From now on the image is here. */
  keep(namespace: string, image: string): UnpackedImage {
    const described = this.#describe(namespace, image);
    this.#present.set(keyOf(namespace, image), described.sizeBytes);
    return described;
  }

  async pull({ namespace, image, signal }: PullRequest): Promise<UnpackedImage> {
    this.#pulls += 1;
    const about = ["pull", this.#node, image, this.#pulls] as const;
    await this.#clock.sleep(this.#chance.within(this.#profile.ms, ...about), signal);
    if (this.#chance.happens(this.#profile.failures, "fails", ...about)) {
      throw new StatusError("UNAVAILABLE", `pull of ${image}: the profile has it fail`, { reason: "SIMULATED" });
    }
    return this.keep(namespace, image);
  }

  async remove(namespace: string, image: string): ReturnType<Images["remove"]> {
    this.#present.delete(keyOf(namespace, image));
    this.#absent.add(keyOf(namespace, image));
  }

  #describe(namespace: string, image: string): UnpackedImage {
    const name = normaliseImage(image);
    const digest = (/@(sha256:[0-9a-f]{64})$/.exec(name)?.[1] ?? sha256(name)) as Digest;
    const target = { mediaType: "application/vnd.oci.image.manifest.v1+json", digest, size: 1_000 };
    return {
      image: { namespace, name, target, labels: {}, createdAtMs: 0, updatedAtMs: 0 },
      manifest: digest,
      configDigest: digest,
      config: { architecture: "", os: "linux", rootfs: { type: "layers", diff_ids: [] } },
      snapshotter: SNAPSHOTTER,
      chainId: "",
      sizeBytes: this.#chance.within(this.#profile.sizeBytes, "size", name),
    };
  }
}

/** The digest is that of the name, for want of content. The same few names are asked for by every node. */
const digests = new Map<string, string>();

function sha256(text: string): string {
  const known = digests.get(text) ?? `sha256:${createHash("sha256").update(text).digest("hex")}`;
  digests.set(text, known);
  return known;
}

function keyOf(namespace: string, image: string): string {
  return `${namespace} ${normaliseImage(image)}`;
}
