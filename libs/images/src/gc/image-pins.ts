/** Pins of images, as rows; see gc.ts for what they promise. */
import { StatusError, type Clock } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import { normaliseImage } from "@berth/model";
import { imageMissing } from "../rows.ts";
import type { ImagePin, ImagePins } from "./gc.ts";
import { deletePin, GcRows, insertPin } from "./rows.ts";

const DEFAULT_HOLDER = "user";

export class ImagePinStore implements ImagePins {
  readonly #metadata: Metadata;
  readonly #rows: GcRows;
  readonly #clock: Clock;

  constructor(metadata: Metadata, clock: Clock) {
    this.#metadata = metadata;
    this.#rows = new GcRows(metadata);
    this.#clock = clock;
  }

  async pin(
    namespace: string,
    image: string,
    options: { readonly until?: number; readonly holder?: string } = {},
  ): Promise<ImagePin> {
    const { until, holder = DEFAULT_HOLDER } = options;
    if (until !== undefined && !(until > this.#clock.nowMs())) {
      throw StatusError.invalid([{ field: "until", description: "is not a time to come" }]);
    }
    if (holder === "") throw StatusError.invalid([{ field: "holder", description: "must not be empty" }]);
    const name = normaliseImage(image);
    const pin = { namespace, name, holder, ...(until === undefined ? {} : { untilMs: until }) };
    const there = {
      sql: "SELECT 1 FROM images WHERE namespace = ? AND name = ?",
      params: [namespace, name],
      expect: { rows: 1, otherwise: imageMissing(namespace, name) },
    };
    await this.#metadata.transact([there, insertPin(pin)]);
    return pin;
  }

  async unpin(namespace: string, image: string, options: { readonly holder?: string } = {}): Promise<void> {
    const { holder = DEFAULT_HOLDER } = options;
    await this.#metadata.transact([deletePin(namespace, normaliseImage(image), holder)]);
  }

  async list(namespace: string): Promise<readonly ImagePin[]> {
    return this.#rows.pins(this.#clock.nowMs(), namespace);
  }
}
