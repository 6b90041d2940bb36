/** Can a snapshotter work here? Every implementation has a `probe` that answers so and never throws. */

export type Probe = { readonly usable: true } | { readonly usable: false; readonly reason: string };

export function unusable(reason: string): Probe {
  return { usable: false, reason };
}
