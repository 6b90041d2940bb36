/** The options that every command of `berthd` has, and those of the simulator. */

export interface GlobalOptions {
  readonly config?: string;
  readonly address?: string;
  readonly namespace: string;
  readonly output: string;
  /** How many agents to simulate. */
  readonly simulate?: string;
  readonly simulateProfile?: string;
  readonly simulateSet?: readonly string[];
}

export type SimulatorOptions = Pick<GlobalOptions, "config" | "simulateProfile" | "simulateSet"> & {
  readonly simulate: number;
};
