/**
 * The image policies of this host's configuration, with the files that they name read and checked: a wrong key is an error at
 * start, not at the first pull. Where the controller's Namespace brings a policy of its own, it belongs before this one.
 */
import { readFile } from "node:fs/promises";
import { StatusError } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import {
  parseSignerKey,
  checkTrustRoot,
  type NamespacePolicy,
  type PolicySource,
  type Requirement,
} from "@berth/images";

type ConfiguredPolicy = AgentConfig["imagePolicies"][string];
type ConfiguredRequirement = ConfiguredPolicy["default"][number];

/** @throws INVALID_ARGUMENT `CONFIG_INVALID` that names the field */
export async function readImagePolicies(config: Pick<AgentConfig, "imagePolicies">): Promise<PolicySource> {
  const policies = new Map<string, NamespacePolicy>();
  for (const [namespace, policy] of Object.entries(config.imagePolicies)) {
    policies.set(namespace, await readPolicy(policy, `imagePolicies.${namespace}`));
  }
  return (namespace) => policies.get(namespace) ?? policies.get("*");
}

async function readPolicy(policy: ConfiguredPolicy, field: string): Promise<NamespacePolicy> {
  const rules = policy.rules.map(async ({ pattern, require }, index) => {
    return { pattern, require: await readRequirements(require, `${field}.rules[${index}].require`) };
  });
  return { rules: await Promise.all(rules), default: await readRequirements(policy.default, `${field}.default`) };
}

async function readRequirements(
  requirements: readonly ConfiguredRequirement[],
  field: string,
): Promise<readonly Requirement[]> {
  return await Promise.all(requirements.map((one, index) => readRequirement(one, `${field}[${index}]`)));
}

async function readRequirement(requirement: ConfiguredRequirement, field: string): Promise<Requirement> {
  switch (requirement.kind) {
    case "none":
    case "reject":
    case "digest-only":
      return { kind: requirement.kind };
    case "key": {
      const { keyFiles, repository, annotations } = requirement;
      const keys = keyFiles.map((file, index) => readChecked(file, `${field}.keyFiles[${index}]`, parseSignerKey));
      return {
        kind: "key",
        keys: await Promise.all(keys),
        ...(repository === undefined ? {} : { repository }),
        ...(annotations === undefined ? {} : { annotations }),
      };
    }
    case "keyless": {
      const { trustRootFile, identities, tlogThreshold, ctlogThreshold } = requirement;
      return {
        kind: "keyless",
        trustRoot: await readChecked(trustRootFile, `${field}.trustRootFile`, checkTrustRoot),
        identities,
        ...(tlogThreshold === undefined ? {} : { tlogThreshold }),
        ...(ctlogThreshold === undefined ? {} : { ctlogThreshold }),
      };
    }
    case "bindir": {
      const { directory, maxPrograms, timeoutMs } = requirement;
      return {
        kind: "bindir",
        directory,
        ...(maxPrograms === undefined ? {} : { maxPrograms }),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      };
    }
  }
}

async function readChecked(file: string, field: string, check: (text: string) => unknown): Promise<string> {
  try {
    const text = await readFile(file, "utf8");
    await check(text);
    return text;
  } catch (error) {
    const description = `${file}: ${StatusError.from(error).message}`;
    throw new StatusError("INVALID_ARGUMENT", `configuration: ${field}: ${description}`, {
      reason: "CONFIG_INVALID",
      violations: [{ field, description }],
      cause: error,
    });
  }
}
