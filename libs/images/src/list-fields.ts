/** The fields of an image that containerd's filters can ask for. */
import type { FieldOf } from "@berth/model";
import type { ImageRecord } from "./images.ts";

export function imageFieldsOf({ name, target, labels }: ImageRecord): FieldOf {
  return ([first, second, ...rest]) => {
    if (first === "name" && second === undefined) return name;
    if (first === "target" && rest.length === 0) {
      return second === "digest" ? target.digest : second === "mediatype" ? target.mediaType : undefined;
    }
    if (first !== "labels" || second === undefined) return undefined;
    const key = [second, ...rest].join(".");
    return Object.hasOwn(labels, key) ? labels[key] : undefined;
  };
}
