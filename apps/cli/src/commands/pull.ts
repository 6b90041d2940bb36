/** `berth pull`: a campaign from the command line, followed until every node has the images. */
import { create } from "@bufbuild/protobuf";
import { hasCode, StatusError } from "@berth/base";
import { normaliseImage } from "@berth/model";
import { CampaignSchema, CampaignService, type CampaignStatus, type CampaignTarget } from "@berth/proto";
import { within } from "../follow.ts";
import { campaignKind, nodeKind } from "../kinds.ts";
import { createProgressView } from "../output/progress.ts";
import { parseDurationMs } from "../output/units.ts";
import { persist } from "../persist.ts";
import type { Session } from "../session.ts";
import { parseAssignments, parseCount } from "./arguments.ts";

export interface PullOptions {
  readonly nodes?: string;
  readonly parallelism: string;
  readonly name?: string;
  readonly snapshotter?: string;
  readonly timeout: string;
}

export async function pull(session: Session, images: readonly string[], options: PullOptions): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const namespace = session.namespace();
  const name = options.name ?? `pull-${Date.now().toString(36)}`;
  const campaign = create(CampaignSchema, {
    metadata: { name, namespace },
    spec: {
      images: images.map(normaliseImage),
      nodeSelector: parseAssignments((options.nodes ?? "").split(",").filter(Boolean), "--nodes"),
      parallelism: parseCount(options.parallelism, "--parallelism"),
      snapshotter: options.snapshotter ?? "",
    },
  });
  await requireNodes(session, options.nodes ?? "");
  const before = options.name === undefined ? undefined : await generationOf(session, namespace, name);
  const after = await session.client(CampaignService).applyCampaign({ campaign });
  const verb = before === undefined ? "created" : before === after.metadata?.generation ? "unchanged" : "configured";
  session.stderr.write(`campaign/${name} ${session.paint.green(verb)}\n`);
  await followCampaign(session, namespace, name, timeoutMs);
}

/** Of the campaign of this name, if there is one: pulling the same again is no error, and pulls nothing. */
async function generationOf(session: Session, namespace: string, name: string): Promise<bigint | undefined> {
  try {
    return (await campaignKind.get(session, namespace, name)).metadata?.generation;
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return undefined;
    throw error;
  }
}

/** A campaign waits for nodes that may come; whoever pulls wants it now. */
async function requireNodes(session: Session, labels: string): Promise<void> {
  const { items } = await nodeKind.list(session, { namespace: "", selector: labels });
  if (items.length > 0) return;
  const which = labels === "" ? "no node has joined" : `no node has the labels ${labels}`;
  throw new StatusError("FAILED_PRECONDITION", `${which}; see berth nodes -o wide`, { reason: "NO_NODES" });
}

/** Shows the progress of every target until the campaign is done. @throws when some target failed for good. */
export async function followCampaign(
  session: Session,
  namespace: string,
  name: string,
  timeoutMs: number,
): Promise<void> {
  using view = createProgressView(session);
  let status: CampaignStatus | undefined;
  const targets = new Map<string, CampaignTarget>();
  const pending = (): string => `gave up waiting for campaign "${name}"; it goes on: berth get campaigns -w`;
  using _goesOn = onInterrupt(session, () => session.note(`campaign "${name}" goes on: berth get campaigns -w`));
  await within(session, timeoutMs, pending, async (waiting) => {
    const client = session.client(CampaignService);
    const open = () => client.watchProgress({ namespace, name }, { signal: waiting.signal });
    for await (const response of persist(waiting, open)) {
      status = response.status ?? status;
      for (const target of response.targets) targets.set(`${target.node} ${target.image}`, target);
      view.update([...targets.values()]);
    }
  });
  view.finish();
  summarise(session, name, status, [...targets.values()]);
}

function onInterrupt({ signal }: Session, tell: () => void): Disposable {
  signal.addEventListener("abort", tell);
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", tell) };
}

function summarise(
  session: Session,
  name: string,
  status: CampaignStatus | undefined,
  targets: readonly CampaignTarget[],
): void {
  const failed = targets.filter((target) => target.phase === "Failed");
  if (failed.length === 0 && status?.phase === "Succeeded") {
    session.out(`campaign/${name} ${session.paint.green("succeeded")}: ${status.succeeded} of ${status.targets} done`);
    return;
  }
  const first = failed[0];
  const why = first === undefined ? "it ended before it was done" : `${first.node}: ${first.message}`;
  throw new StatusError(
    "INTERNAL",
    `campaign "${name}": ${failed.length} of ${targets.length} targets failed; ${why}`,
    {
      reason: "CAMPAIGN_FAILED",
    },
  );
}
