/** `berthd images inspect`, `history`, `usage` and `prune`: what images are made of, and what they cost. */
import { formatBytes, formatTable } from "@berth/base/terminal";
import {
  GetImageHistoryResponseSchema,
  ImageDetailsSchema,
  ImageService,
  ImageUsageReportSchema,
  PruneImagesResponseSchema,
  type ImageDetails,
} from "@berth/proto/host";
import {
  ageOf,
  labelsOf,
  parseDuration,
  printFields,
  printJson,
  shortDigest,
  timeOf,
  type Session,
} from "./session.ts";

export async function inspect(session: Session, image: string): Promise<void> {
  const details = await session.client(ImageService).inspectImage({ namespace: session.namespace, image });
  if (session.json) return printJson(session, ImageDetailsSchema, details);
  const { unpackedBytes } = details;
  printFields(session, [
    ["Name", details.image?.name ?? image],
    ["Names", details.names.join(", ")],
    ["Digest", details.image?.target?.digest ?? "-"],
    ["Manifest", details.manifest?.digest ?? "-"],
    [
      "Platforms",
      details.platforms
        .map(({ platform, present }) => `${platform || "?"}${present ? "" : " (not here)"}`)
        .join(", ") || "-",
    ],
    [
      "Size",
      `${formatBytes(details.compressedBytes)}${unpackedBytes === undefined ? "" : `, ${formatBytes(unpackedBytes)} unpacked`}`,
    ],
    ["From", details.sources.join(", ") || "-"],
    ["Verified", verifiedOf(details)],
    ["Pinned", details.pinned ? "yes" : "no"],
    ["Labels", labelsOf(details.image?.labels ?? {})],
    ["Updated", timeOf(details.image?.updatedAt)],
    ["Used", timeOf(details.lastUsedAt)],
    ...configOf(details.configJson),
  ]);
  const columns = [
    { heading: "LAYER", cell: (layer: ImageDetails["layers"][number]) => layer.descriptor?.digest ?? "" },
    {
      heading: "SIZE",
      cell: (layer: ImageDetails["layers"][number]) => formatBytes(layer.descriptor?.sizeBytes ?? 0n),
    },
    { heading: "HERE", cell: (layer: ImageDetails["layers"][number]) => (layer.present ? "yes" : "no") },
    { heading: "UNPACKED", cell: (layer: ImageDetails["layers"][number]) => layer.unpacked.join(",") || "-" },
  ];
  if (details.layers.length > 0) session.stdout.write(`\n${formatTable(columns, details.layers, { wide: false })}`);
}

function verifiedOf({ verified }: ImageDetails): string {
  const current = verified.filter((each) => each.current);
  return current.length === 0 ? "no" : current.map(({ kind, by }) => `by ${kind}: ${by}`).join("; ");
}

/** What a container gets of it, in the config's own words. */
function configOf(text: string): [string, string][] {
  if (text === "") return [];
  const { config = {} } = JSON.parse(text) as { config?: Record<string, unknown> };
  return ["Entrypoint", "Cmd", "User", "WorkingDir", "Env"].flatMap((key) => {
    const value = config[key];
    const empty = value === undefined || value === null || value === "";
    return empty ? [] : [[key, typeof value === "string" ? value : JSON.stringify(value)] as [string, string]];
  });
}

export async function history(session: Session, image: string): Promise<void> {
  const found = await session.client(ImageService).getImageHistory({ namespace: session.namespace, image });
  if (session.json) return printJson(session, GetImageHistoryResponseSchema, found);
  const columns = [
    {
      heading: "LAYER",
      cell: (e: (typeof found.entries)[number]) => (e.empty ? "-" : shortDigest(e.layer?.digest ?? "?")),
    },
    { heading: "CREATED", cell: (e: (typeof found.entries)[number]) => ageOf(e.createdAt) },
    { heading: "SIZE", cell: (e: (typeof found.entries)[number]) => formatBytes(e.sizeBytes) },
    { heading: "BY", cell: (e: (typeof found.entries)[number]) => oneLine(e.createdBy) || e.comment || "-" },
  ];
  session.stdout.write(formatTable(columns, found.entries, { wide: false }));
}

function oneLine(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length <= 80 ? line : `${line.slice(0, 79)}…`;
}

export async function usage(session: Session): Promise<void> {
  const report = await session.client(ImageService).getImageUsage({ namespace: session.namespace });
  if (session.json) return printJson(session, ImageUsageReportSchema, report);
  const columns = [
    { heading: "NAME", cell: (image: (typeof report.images)[number]) => image.name },
    { heading: "OWN", cell: (image: (typeof report.images)[number]) => formatBytes(image.uniqueBytes) },
    { heading: "SHARED", cell: (image: (typeof report.images)[number]) => formatBytes(image.sharedBytes) },
    { heading: "USED", cell: (image: (typeof report.images)[number]) => ageOf(image.lastUsedAt) },
    { heading: "PINNED", cell: (image: (typeof report.images)[number]) => (image.pinned ? "yes" : "no") },
  ];
  session.stdout.write(`${formatTable(columns, report.images, { wide: false })}\n`);
  printFields(session, [
    ["Blobs", formatBytes(report.blobBytes)],
    ["Snapshots", formatBytes(report.snapshotBytes)],
    ["Total", formatBytes(report.totalBytes)],
    ["Reclaimable", formatBytes(report.reclaimableBytes)],
  ]);
}

export interface PruneOptions {
  readonly dangling?: boolean;
  readonly olderThan?: string;
  readonly dryRun?: boolean;
}

export async function prune(session: Session, filters: readonly string[], options: PruneOptions): Promise<void> {
  const olderThanMs = options.olderThan === undefined ? 0 : parseDuration(options.olderThan, "--older-than");
  const dryRun = options.dryRun ?? false;
  const result = await session.client(ImageService).pruneImages(
    {
      namespace: session.namespace,
      filters: [...filters],
      dangling: options.dangling ?? false,
      olderThanMs: BigInt(Math.round(olderThanMs)),
      dryRun,
    },
    { timeoutMs: 3_600_000 },
  );
  if (session.json) return printJson(session, PruneImagesResponseSchema, result);
  for (const { name } of result.removed) session.out(`${dryRun ? "would remove" : "removed"} ${name}`);
  for (const { name, why } of result.kept) session.note(`kept ${name}: ${why}`);
  session.out(`${formatBytes(result.freedBytes)} ${dryRun ? "would be freed" : "freed"}`);
}
