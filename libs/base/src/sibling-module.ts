/**
 * The module of a worker thread that lies beside the module that starts it. In the repository it is a `.ts`; in a release
 * (`deploy/pack`) both are bundles of JavaScript in one folder.
 */
export function siblingModule(name: string, importMetaUrl: string): URL {
  const extension = new URL(importMetaUrl).pathname.endsWith(".ts") ? "ts" : "js";
  return new URL(`${name}.${extension}`, importMetaUrl);
}
