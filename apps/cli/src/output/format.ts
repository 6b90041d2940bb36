/** `-o table|wide|json|yaml`. JSON and YAML are manifests again: they carry apiVersion and kind, and `apply` takes them. */
import { toJson, type DescMessage, type Message } from "@bufbuild/protobuf";
import { UsageError } from "../exit-code.ts";

export const OUTPUTS = ["table", "wide", "json", "yaml"] as const;
export type Output = (typeof OUTPUTS)[number];

export function parseOutput(text: string): Output {
  const found = OUTPUTS.find((output) => output === text);
  if (found === undefined) throw new UsageError(`-o ${JSON.stringify(text)}: choose one of ${OUTPUTS.join(", ")}`);
  return found;
}

export function toManifest(kind: string, schema: DescMessage, message: Message): Record<string, unknown> {
  return { apiVersion: "berth/v1", kind, ...(toJson(schema, message) as Record<string, unknown>) };
}

export async function formatDocuments(
  output: "json" | "yaml",
  documents: readonly unknown[],
  single: boolean,
): Promise<string> {
  const value = single ? documents[0] : documents;
  if (output === "json") return `${JSON.stringify(value, null, 2)}\n`;
  const { default: yaml } = await import("yaml");
  if (single) return yaml.stringify(value);
  return documents.map((document) => yaml.stringify(document)).join("---\n");
}

/** One document at a time, for output that goes on: JSON a line each, YAML with a separator in front of each. */
export async function formatStream(output: "json" | "yaml", documents: readonly unknown[]): Promise<string> {
  if (output === "json") return documents.map((document) => `${JSON.stringify(document)}\n`).join("");
  const { default: yaml } = await import("yaml");
  return documents.map((document) => `---\n${yaml.stringify(document)}`).join("");
}
