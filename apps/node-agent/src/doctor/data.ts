/** The data root's content: the database itself, and its rows held against the files that they speak of. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { hasCode, StatusError } from "@berth/base";
import { auditContent } from "@berth/content";
import { checkMetadata, readMetadata, type MetadataReader } from "@berth/metadata";
import type { Check, CheckContext, Finding } from "./finding.ts";

const MAX_NAMED = 5;
const RESTORE = "stop the agent and restore the newest backup (docs/operations/backup-node.md)";

export const databaseCheck: Check = async ({ metadataPath }) => {
  if (!existsSync(metadataPath)) return [fresh("database")];
  try {
    const { damage, dangling } = await checkMetadata(metadataPath);
    return [
      damage.length === 0
        ? { check: "database/integrity", status: "ok", detail: "integrity_check finds nothing" }
        : { check: "database/integrity", status: "fail", detail: some(damage), remedy: RESTORE },
      dangling.length === 0
        ? { check: "database/references", status: "ok", detail: "foreign_key_check finds nothing" }
        : { check: "database/references", status: "fail", detail: some(dangling), remedy: RESTORE },
    ];
  } catch (error) {
    if (!hasCode(error, "DATA_LOSS", "FAILED_PRECONDITION")) throw error;
    const detail = StatusError.from(error).message;
    return [{ check: "database/integrity", status: "fail", detail, remedy: RESTORE }];
  }
};

export const filesCheck: Check = async (context) => {
  if (!existsSync(context.metadataPath)) return [];
  using metadata = await readMetadata(context.metadataPath);
  return [...(await contentFindings(context, metadata)), ...snapshotFindings(context, metadata)];
};

async function contentFindings({ config, running }: CheckContext, metadata: MetadataReader): Promise<Finding[]> {
  const audit = await auditContent(join(config.root, "content"), metadata);
  const findings: Finding[] = [];
  if (audit.lost.length > 0) {
    const detail = `${audit.lost.length} of ${audit.blobs} blobs are damaged: ${some(audit.lost.map((l) => `${l.digest} (${l.what})`))}`;
    findings.push({ check: "files/blobs", status: "fail", detail, remedy: "berthd verify --repair" });
  } else findings.push({ check: "files/blobs", status: "ok", detail: `${audit.blobs} blobs have their files` });
  const strays = [...audit.orphanFiles, ...audit.brokenIngests];
  if (strays.length > 0) findings.push(leftover("files/content", strays, running));
  return findings;
}

/** Overlayfs and native keep a directory for each snapshot, `snapshots/<id>` beneath their own. */
function snapshotFindings({ config, running }: CheckContext, metadata: MetadataReader): Finding[] {
  const findings: Finding[] = [];
  for (const name of ["overlayfs", "native"]) {
    const directory = join(config.root, "snapshots", name, "snapshots");
    if (!existsSync(directory)) continue;
    const check = `files/snapshots/${name}`;
    const there = new Set(readdirSync(directory));
    const rows = metadata.all("SELECT id, key FROM snapshots WHERE snapshotter = ?", name);
    const lost = rows.filter(({ id }) => !there.delete(String(id))).map(({ key }) => String(key));
    if (lost.length > 0) {
      const detail = `${lost.length} snapshots have no directory: ${some(lost)}`;
      const remedy = "restart the agent, which drops them with what was built on them, and pull their images again";
      findings.push({ check, status: "fail", detail, remedy });
    } else findings.push({ check, status: "ok", detail: `${rows.length} snapshots have their directories` });
    if (there.size > 0)
      findings.push(
        leftover(
          check,
          [...there].map((id) => join(directory, id)),
          running,
        ),
      );
  }
  return findings;
}

/** A running agent makes files before rows: what is new is no leftover. */
function leftover(check: string, what: readonly string[], running: number | undefined): Finding {
  const detail = `${what.length} belong to no record: ${some(what)}`;
  const remedy =
    running === undefined
      ? "start the agent, which removes or resumes them"
      : "look again; a restart removes what stays";
  return { check, status: "warn", detail, remedy };
}

function fresh(check: string): Finding {
  return { check, status: "ok", detail: "there is none yet: this data root is new" };
}

function some(items: readonly string[]): string {
  const named = items.slice(0, MAX_NAMED).join("; ");
  return items.length > MAX_NAMED ? `${named} and ${items.length - MAX_NAMED} more` : named;
}
