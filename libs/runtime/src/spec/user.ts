/**
 * Who a container's process runs as: `user[:group]` by id or by name, names looked up in the image's own /etc/passwd and
 * /etc/group. The files are hostile: they are read beneath the root, bounded, and never trusted to be well formed.
 *
 * Rules of runc's libcontainer/user: a numeric user need not exist; its group is then 0. The groups that list the user by
 * name are added; the primary group is among the additional ones (CVE-2022-36109).
 */
import { StatusError } from "@berth/base";
import type { OciUser } from "./oci-spec.ts";

/** The text of a file of the image, resolved beneath its root; undefined when there is none. */
export type ReadImageFile = (path: string) => Promise<string | undefined>;

const MAX_ID = 2 ** 32 - 2;

/**
 * @param field what an error names, e.g. `spec.user`
 * @throws INVALID_ARGUMENT for an unknown name or an id out of range.
 */
export async function resolveUser(
  user: string,
  field: string,
  readImageFile: ReadImageFile,
  additionalGroups: readonly number[] = [],
): Promise<OciUser> {
  const [userPart = "", groupPart, ...rest] = user.split(":");
  if (rest.length > 0) throw invalid(field, `${JSON.stringify(user)} is not of the form user[:group]`);
  const account = await findAccount(userPart === "" ? "0" : userPart, field, readImageFile);
  const groups = parseGroups((await readImageFile("/etc/group")) ?? "");
  const gid = groupPart === undefined || groupPart === "" ? account.gid : findGroup(groupPart, field, groups);
  const listed = account.name === undefined ? [] : groups.filter((group) => group.members.includes(account.name!));
  const additionalGids = new Set([gid, ...additionalGroups, ...listed.map((group) => group.gid)]);
  return { uid: account.uid, gid, additionalGids: [...additionalGids] };
}

interface Account {
  readonly name: string | undefined;
  readonly uid: number;
  readonly gid: number;
}

interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

async function findAccount(user: string, field: string, readImageFile: ReadImageFile): Promise<Account> {
  const accounts = parseAccounts((await readImageFile("/etc/passwd")) ?? "");
  const byName = accounts.find((account) => account.name === user);
  if (byName !== undefined) return byName;
  if (!/^\d+$/.test(user)) throw invalid(field, `the image's /etc/passwd has no user ${JSON.stringify(user)}`);
  const uid = parseId(user, field);
  return accounts.find((account) => account.uid === uid) ?? { name: undefined, uid, gid: 0 };
}

function findGroup(group: string, field: string, groups: readonly Group[]): number {
  const byName = groups.find((candidate) => candidate.name === group);
  if (byName !== undefined) return byName.gid;
  if (!/^\d+$/.test(group)) throw invalid(field, `the image's /etc/group has no group ${JSON.stringify(group)}`);
  return parseId(group, field);
}

function parseAccounts(text: string): readonly Account[] {
  return text.split("\n").flatMap((line) => {
    const [name, , uid, gid] = line.split(":");
    if (name === undefined || name === "" || !isId(uid) || !isId(gid)) return [];
    return [{ name, uid: Number(uid), gid: Number(gid) }];
  });
}

function parseGroups(text: string): readonly Group[] {
  return text.split("\n").flatMap((line) => {
    const [name, , gid, members] = line.split(":");
    if (name === undefined || name === "" || !isId(gid)) return [];
    return [{ name, gid: Number(gid), members: (members ?? "").split(",").map((member) => member.trim()) }];
  });
}

function isId(text: string | undefined): boolean {
  return text !== undefined && /^\d{1,10}$/.test(text) && Number(text) <= MAX_ID;
}

function parseId(text: string, field: string): number {
  if (!isId(text)) throw invalid(field, `id ${text} is out of range`);
  return Number(text);
}

function invalid(field: string, description: string): StatusError {
  return StatusError.invalid([{ field, description }]);
}
