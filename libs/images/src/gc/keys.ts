/**
 * Names of what collection speaks of, as strings: the keys of pins.ts, and those of images, containers and ingests. Digests,
 * snapshotters and namespaces have no blanks, so that a key has one reading.
 */
import { blobPin, snapshotPin } from "../pins.ts";

export const contentKey = blobPin;

export function snapshotKey(namespace: string, snapshotter: string, key: string): string {
  return snapshotPin(namespace, snapshotter, key);
}

export function imageKey(namespace: string, name: string): string {
  return `image ${namespace} ${name}`;
}

export function containerKey(namespace: string, id: string): string {
  return `container ${namespace} ${id}`;
}

export function ingestKey(namespace: string, ref: string): string {
  return `ingest ${namespace} ${ref}`;
}
