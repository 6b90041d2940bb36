/**
 * Which images each namespace of this host may use, as it stands in the agent's configuration; docs/operations/image-verification.md
 * tells what it means. Files are named here and read by whoever builds the policy.
 */
import { z } from "zod";
import { absolutePath } from "./fields.ts";

const PATTERN = /^[A-Za-z0-9.:[\]*_/-]+$/;
const count = (min: number, max: number): z.ZodNumber =>
  z
    .int({ error: "is not a whole number" })
    .min(min, { error: `is less than ${min}` })
    .max(max, { error: `is more than ${max}` });

const identity = z.strictObject({
  /** `*` stands for what is between slashes, `**` for anything. */
  subject: z.string().min(1, { error: "is empty; give the e-mail address or URI that may sign" }),
  issuer: z.string().min(1, { error: "is empty; give the URL that vouches for the subject" }),
});

const requirement = z.discriminatedUnion(
  "kind",
  [
    z.strictObject({ kind: z.literal("none") }),
    z.strictObject({ kind: z.literal("reject") }),
    z.strictObject({ kind: z.literal("digest-only") }),
    z.strictObject({
      kind: z.literal("key"),
      keyFiles: z.array(absolutePath()).min(1, { error: "is empty; name at least one file with a public key" }),
      repository: z.string().min(1).optional(),
      annotations: z.record(z.string(), z.string()).optional(),
    }),
    z.strictObject({
      kind: z.literal("keyless"),
      trustRootFile: absolutePath(),
      identities: z.array(identity).min(1, { error: "is empty; name at least one subject with its issuer" }),
      tlogThreshold: count(0, 10).optional(),
      ctlogThreshold: count(0, 10).optional(),
    }),
    z.strictObject({
      kind: z.literal("bindir"),
      directory: absolutePath(),
      maxPrograms: count(1, 100).optional(),
      timeoutMs: count(1, 600_000).optional(),
    }),
  ],
  { error: "is not one of none, reject, digest-only, key, keyless, bindir" },
);

const requirements = z.array(requirement).min(1, { error: "is empty; write kind: none to require nothing" });

const policy = z.strictObject({
  /** The first rule whose pattern fits decides. */
  rules: z
    .array(
      z.strictObject({
        pattern: z.string().regex(PATTERN, {
          error: "is not a pattern of registry/repository, such as registry.example/team/* (no tag)",
        }),
        require: requirements,
      }),
    )
    .default([]),
  default: requirements,
});

/** By namespace; `*` is for those that are not named. */
export const imagePolicies = z.record(z.string().min(1), policy).default({});
