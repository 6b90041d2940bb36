/** A directory tree as plain data, to compare what a mount shows with what it should. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/** Relative path → one line that says all: type, mode, owner, content or target. */
export type Tree = Readonly<Record<string, string>>;

export function readTree(directory: string): Tree {
  const tree: Record<string, string> = {};
  const visit = (path: string, name: string): void => {
    const info = lstatSync(path);
    const mode = (info.mode & 0o7777).toString(8);
    const owner = `${info.uid}:${info.gid}`;
    if (info.isDirectory()) {
      if (name !== "") tree[name] = `dir ${mode} ${owner}`;
      for (const entry of readdirSync(path).sort()) visit(join(path, entry), name === "" ? entry : `${name}/${entry}`);
    } else if (info.isSymbolicLink()) tree[name] = `link ${owner} ${readlinkSync(path)}`;
    else if (info.isFile()) tree[name] = `file ${mode} ${owner} ${readFileSync(path, "latin1")}`;
    else tree[name] = `special ${mode} ${owner} ${info.rdev}`;
  };
  visit(directory, "");
  return tree;
}
