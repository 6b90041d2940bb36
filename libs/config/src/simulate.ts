/**
 * What simulated agents pretend (`berthd --simulate N --simulate-profile FILE`): how large their hosts are, how long things
 * take, and what fails. All of it follows from `seed` and names, so that a run can be had again.
 */
import { z } from "zod";
import { absolutePath } from "./fields.ts";
import { resolveConfig, type EnvBinding, type Frozen } from "./resolve.ts";

const whole = (min: number): z.ZodNumber =>
  z.int({ error: "is not a whole number" }).min(min, { error: `is less than ${min}` });

const share = z
  .number({ error: "is not a number from 0 to 1" })
  .min(0, { error: "is less than 0" })
  .max(1, { error: "is more than 1" });

/** Drawn between both, small values as often as large ones (evenly by their logarithm). */
const range = (min: number, max: number) =>
  z
    .strictObject({ min: whole(0), max: whole(0) })
    .refine((value) => value.min <= value.max, { error: "min is more than max" })
    .prefault({ min, max });

const GIB = 2 ** 30;

const simulateSchema = z
  .strictObject({
    seed: whole(0).default(1),
    prefix: z
      .string()
      .regex(/^[a-z][a-z0-9-]{0,40}$/, { error: 'is not lower-case letters, digits and "-"' })
      .default("sim")
      .describe("Of the nodes' names: `sim-0001`."),
    directory: absolutePath()
      .default("/dev/shm/berth-simulate")
      .describe(
        "Where the agents' journals and records are, in one file: a tmpfs, unless they shall outlive a reboot.",
      ),
    labels: z.record(z.string(), z.string()).default({}).describe("Of every node, besides zone and rack."),
    zones: whole(1).default(3).describe("Nodes are spread over zones `z1`, `z2`…"),
    racksPerZone: whole(1).default(4).describe("And within each over racks `z1-r1`, `z1-r2`…"),
    capacity: z
      .strictObject({
        cpuMillis: whole(1).default(64_000),
        memoryBytes: whole(1).default(256 * GIB),
        tasks: whole(1).default(250),
        diskBytes: range(200 * GIB, 2_000 * GIB),
      })
      .prefault({}),
    pull: z
      .strictObject({
        ms: range(50, 400).describe("How long a pull takes."),
        sizeBytes: range(20 * 2 ** 20, 2 * GIB).describe("How large an image is; the same on every node."),
        warm: share.default(0).describe("On how many of the nodes an image is before anybody pulled it."),
        failures: share.default(0).describe("How many of the pulls fail."),
      })
      .prefault({}),
    start: z
      .strictObject({
        ms: range(10, 60).describe("How long a start takes, once the image is there."),
        failures: share.default(0).describe("How many of the starts fail."),
      })
      .prefault({}),
    exit: z
      .strictObject({
        share: share.default(0).describe("How many of the containers end by themselves."),
        afterMs: range(1_000, 60_000).describe("How long such a container runs."),
        code: whole(0).max(255, { error: "is more than 255" }).default(1).describe("The exit code that it ends with."),
      })
      .prefault({}),
    stop: z
      .strictObject({ ms: range(5, 50).describe("How long a container takes to end after SIGTERM.") })
      .prefault({}),
  })
  .readonly();

export type SimulationProfile = Frozen<z.output<typeof simulateSchema>>;
export type SimulationRange = { readonly min: number; readonly max: number };

export interface ProfileSource {
  /** YAML or JSON. */
  readonly file?: string | undefined;
  /** `field.of.it=value`, each; they win over the file. */
  readonly settings?: readonly string[];
}

/** @throws INVALID_ARGUMENT `CONFIG_INVALID`, naming the field; NOT_FOUND for a file that is not there. */
export function loadSimulationProfile({ file, settings = [] }: ProfileSource): Promise<SimulationProfile> {
  const bindings: EnvBinding[] = [];
  const env: Record<string, string> = {};
  for (const setting of settings) {
    const equals = setting.indexOf("=");
    const name = setting.slice(0, equals < 0 ? undefined : equals);
    const variable = `--simulate-set ${name}`;
    bindings.push({ variable, path: name.split("."), parse: parseSetting });
    env[variable] = equals < 0 ? "true" : setting.slice(equals + 1);
  }
  return resolveConfig(simulateSchema, bindings, { file, env });
}

function parseSetting(text: string): string | number {
  return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}
