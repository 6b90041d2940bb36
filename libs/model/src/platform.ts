/** Which manifest of an index fits this host (containerd's platforms package, its default matcher). */
import { arch } from "node:process";
import type { Descriptor, Platform } from "./oci.ts";

const ARCHITECTURES: Readonly<Record<string, Platform>> = {
  x64: { os: "linux", architecture: "amd64" },
  arm64: { os: "linux", architecture: "arm64", variant: "v8" },
  arm: { os: "linux", architecture: "arm", variant: "v7" },
  ppc64: { os: "linux", architecture: "ppc64le" },
  s390x: { os: "linux", architecture: "s390x" },
  riscv64: { os: "linux", architecture: "riscv64" },
};

/** This host's platform, by GOOS and GOARCH names. */
export const hostPlatform: Platform = ARCHITECTURES[arch] ?? { os: "linux", architecture: arch };

export function formatPlatform(platform: Platform): string {
  const variant = platform.variant === undefined || platform.variant === "" ? "" : `/${platform.variant}`;
  return `${platform.os}/${platform.architecture}${variant}`;
}

/** The best fitting descriptor: same os and architecture; the exact variant first, then a lower one. */
export function choosePlatform(manifests: readonly Descriptor[], wanted: Platform): Descriptor | undefined {
  const candidates = manifests
    .map((descriptor) => ({ descriptor, rank: descriptor.platform ? platformRank(descriptor.platform, wanted) : -1 }))
    .filter((candidate) => candidate.rank >= 0)
    .sort((a, b) => b.rank - a.rank);
  return candidates[0]?.descriptor;
}

/** How well something made for `offered` runs on `wanted`: -1 not at all, otherwise the higher the better. */
export function platformRank(offered: Platform, wanted: Platform): number {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return -1;
  const have = variantNumber(offered);
  const want = variantNumber(wanted);
  if (have === want) return 100;
  return have < want ? have : -1;
}

function variantNumber(platform: Platform): number {
  const fallback = platform.architecture === "arm64" ? 8 : platform.architecture === "arm" ? 7 : 1;
  const match = /^v(\d+)/.exec(platform.variant ?? "");
  return match === null ? fallback : Number(match[1]);
}
