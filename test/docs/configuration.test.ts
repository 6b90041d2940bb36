/** What the operations pages show of the agent's configuration is taken by it, and the fields that they name are in the reference. */
import assert from "node:assert/strict";
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { loadAgentConfig, loadSimulationProfile } from "@berth/config";

const ROOT = resolve(import.meta.dirname, "../..");
const PAGES = globSync("docs/operations/*.md", { cwd: ROOT });
const REFERENCE = readFileSync(join(ROOT, "docs/reference/agent-configuration.md"), "utf8");
const FIELDS = new Set([...REFERENCE.matchAll(/^\| `([^`]+)`/gm)].map(([, field]) => field!));
const TOP = [...FIELDS].filter((field) => !field.includes("."));

/** Blocks that begin with a field of the agent's; others are commands, and files of other programs. */
function examplesOf(page: string): string[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  const fenced = [...text.matchAll(/^```yaml\n(.*?)^```/gms)].map(([, block]) => block!);
  const indented = [...text.matchAll(/(?:^ {4}.*\n|^\n(?= {4}))+/gm)].map(([block]) => block.replaceAll(/^ {4}/gm, ""));
  return [...fenced, ...indented].filter((block) => TOP.some((field) => block.trimStart().startsWith(`${field}:`)));
}

void test("every example of the agent's configuration is one", async () => {
  const env = { REDIS_URL: "redis://127.0.0.1", NATS_URL: "nats://127.0.0.1" };
  const folder = mkdtempSync(join(tmpdir(), "berth-docs-"));
  try {
    let seen = 0;
    for (const page of PAGES) {
      for (const example of examplesOf(page)) {
        seen += 1;
        const file = join(folder, `${page.replaceAll("/", "-")}.yaml`);
        writeFileSync(file, example);
        await loadAgentConfig({ file, env });
      }
    }
    assert.ok(seen >= 3, `only ${seen} examples were found`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

void test("every field of the agent's configuration that a page names by its path is in the reference", () => {
  const beneath = new RegExp(`^(?:${TOP.join("|")})\\.[\\w.<>[\\]]+$`);
  const named = PAGES.flatMap((page) =>
    [...readFileSync(join(ROOT, page), "utf8").matchAll(/`([^`\n]+)`/g)]
      .map(([, code]) => ({ page, field: code!.split(":", 1)[0]! }))
      // containerd's labels may be named without their prefix.
      .filter(({ field }) => beneath.test(field) && !/^gc\.b?ref\./.test(field)),
  );
  assert.ok(named.length >= 3, `only ${named.length} fields were found`);
  assert.deepEqual(
    named.filter(({ field }) => !FIELDS.has(field) && !FIELDS.has(`${field}.plainHttp`)),
    [],
  );
});

void test("the profile of simulated agents that a page shows is one, and shows every field", async () => {
  const page = readFileSync(join(ROOT, "docs/operations/simulate.md"), "utf8");
  const [, example = ""] = /^```yaml\n(seed.*?)^```/ms.exec(page) ?? [];
  const folder = mkdtempSync(join(tmpdir(), "berth-docs-"));
  try {
    writeFileSync(join(folder, "profile.yaml"), example);
    const shown = await loadSimulationProfile({ file: join(folder, "profile.yaml") });
    const defaults = await loadSimulationProfile({});
    assert.deepEqual(Object.keys(shown).toSorted(), Object.keys(defaults).toSorted());
    for (const field of Object.keys(defaults)) assert.match(example, new RegExp(`^${field}:`, "m"));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
