/**
 * `berth explain`: why a task is where it is, why not elsewhere, and what would have to change; of a workload, in groups; of a
 * node, when what ran there may be replaced.
 */
import { toJson } from "@bufbuild/protobuf";
import { PlacementService, TaskExplanationSchema, TaskSchema, WorkloadExplanationSchema } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { nodeKind, parseTarget, taskKind, workloadKind } from "../kinds.ts";
import { taskScreen, workloadScreen } from "../output/explain-screen.ts";
import { formatDocuments, parseOutput } from "../output/format.ts";
import { replacementLines } from "../output/node-replacement.ts";
import type { Session } from "../session.ts";

export interface ExplainOptions {
  readonly output: string;
  readonly node?: string;
  readonly allNodes?: boolean;
}

export async function explain(session: Session, target: readonly string[], options: ExplainOptions): Promise<void> {
  const output = parseOutput(options.output);
  const usage = "usage: berth explain task NAME | workload NAME | node NAME";
  if (target.length === 0) throw new UsageError(usage);
  const { kind, names } = parseTarget(target);
  const [name] = names;
  if (name === undefined || names.length > 1) throw new UsageError(usage);
  const client = session.client(PlacementService);
  const namespace = session.namespace();
  const print = async (json: unknown, lines: readonly string[]): Promise<void> => {
    if (output === "json" || output === "yaml") session.out(await formatDocuments(output, [json], true));
    else session.out(lines.join("\n"));
  };
  if (kind.kind === taskKind.kind) {
    const { node = "", allNodes = false } = options;
    const explained = await client.explainTask({ namespace, name, node, allNodes });
    return await print(toJson(TaskExplanationSchema, explained), taskScreen(explained, session.paint));
  }
  if (kind.kind !== workloadKind.kind && kind.kind !== nodeKind.kind)
    throw new UsageError("tasks, workloads and nodes are explained: berth explain task NAME");
  if (options.node !== undefined || options.allNodes === true) {
    throw new UsageError("--node and --all-nodes are of tasks: berth explain task NAME --node NODE");
  }
  if (kind.kind === nodeKind.kind) return await explainNode(session, name, print);
  const explained = await client.explainWorkload({ namespace, name });
  return await print(toJson(WorkloadExplanationSchema, explained), workloadScreen(explained, session.paint));
}

async function explainNode(
  session: Session,
  name: string,
  print: (json: unknown, lines: readonly string[]) => Promise<void>,
): Promise<void> {
  const node = await nodeKind.get(session, "", name);
  const { items } = await taskKind.list(session, { namespace: "-", node: name, selector: "" });
  const tasks = items.map((task) => {
    const { metadata, status } = toJson(TaskSchema, task) as Record<string, Record<string, unknown>>;
    return {
      namespace: metadata?.["namespace"],
      name: metadata?.["name"],
      certainty: status?.["certainty"],
      replacement: status?.["replacement"],
    };
  });
  await print({ node: name, phase: node.status?.phase, tasks }, replacementLines(node, items));
}
