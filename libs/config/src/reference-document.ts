/** The text of `docs/reference/agent-configuration.md`. Run as a program it writes the file; its test compares. */
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { agentBindings, agentSchema } from "./agent.ts";
import { referenceTable } from "./reference.ts";

export const AGENT_REFERENCE = resolve(import.meta.dirname, "../../../docs/reference/agent-configuration.md");

export function agentReference(): string {
  return `# The agent's configuration

\`berthd --config FILE\` reads YAML or JSON; variables of the environment win over it, field by field. An unknown field, or a wrong
value, is refused at start with file, line and field. Changes take effect with the next start. This page is made of the schema in
\`libs/config/src/agent.ts\` by \`node libs/config/src/reference-document.ts\`; a test compares them.

Sizes are in bytes, times in milliseconds, as the names say. What belongs together is told at length in
[registries](../operations/registries.md), [image verification](../operations/image-verification.md),
[disk and collection](../operations/disk-and-gc.md) and [snapshotters](../operations/snapshotters.md).

${referenceTable(agentSchema, agentBindings)}
`;
}

if (import.meta.main) writeFileSync(AGENT_REFERENCE, agentReference());
