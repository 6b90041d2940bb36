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
  subject: z
    .string()
    .min(1, { error: "is empty; give the e-mail address or URI that may sign" })
    .describe("Who may sign: `*` stands for what is between slashes, `**` for anything."),
  issuer: z
    .string()
    .min(1, { error: "is empty; give the URL that vouches for the subject" })
    .describe("Who vouches for the subject, in full."),
});

const requirement = z.discriminatedUnion(
  "kind",
  [
    z.strictObject({ kind: z.literal("none") }),
    z.strictObject({ kind: z.literal("reject") }),
    z.strictObject({ kind: z.literal("digest-only") }),
    z.strictObject({
      kind: z.literal("key"),
      keyFiles: z
        .array(absolutePath())
        .min(1, { error: "is empty; name at least one file with a public key" })
        .describe("Public keys in PEM, one of which must have signed."),
      repository: z.string().min(1).optional().meta({
        description: "The one that the signature must speak of; `same`: the image's own.",
        otherwise: "not looked at",
      }),
      annotations: z.record(z.string(), z.string()).optional().describe("That the signature must carry."),
    }),
    z.strictObject({
      kind: z.literal("keyless"),
      trustRootFile: absolutePath().describe("Sigstore's `trusted_root.json`."),
      identities: z
        .array(identity)
        .min(1, { error: "is empty; name at least one subject with its issuer" })
        .describe("One of these must have signed."),
      tlogThreshold: count(0, 10)
        .optional()
        .meta({ description: "How many transparency logs must know of the signature.", otherwise: "1" }),
      ctlogThreshold: count(0, 10)
        .optional()
        .meta({ description: "How many logs of certificates must know of the certificate.", otherwise: "1" })
        .meta({ description: "How many logs of certificates must know of the certificate.", otherwise: "1" }),
    }),
    z.strictObject({
      kind: z.literal("bindir"),
      directory: absolutePath().describe("All of its programs must allow the image."),
      maxPrograms: count(1, 100).optional().meta({ description: "More of them refuse everything.", otherwise: "10" }),
      timeoutMs: count(1, 600_000).optional().meta({ description: "For each program.", otherwise: "10000" }),
    }),
  ],
  { error: "is not one of none, reject, digest-only, key, keyless, bindir" },
);

const requirements = z.array(requirement).min(1, { error: "is empty; write kind: none to require nothing" });

const policy = z.strictObject({
  rules: z
    .array(
      z.strictObject({
        pattern: z
          .string()
          .regex(PATTERN, {
            error: "is not a pattern of registry/repository, such as registry.example/team/* (no tag)",
          })
          .describe("Registry and repository: `*` stands for what is between slashes, `**` for anything."),
        require: requirements.describe("All of these must hold."),
      }),
    )
    .default([])
    .describe("The first whose pattern fits decides."),
  default: requirements.describe("What must hold where no rule fits."),
});

/** By namespace. */
export const imagePolicies = z.record(z.string().min(1), policy).default({});
