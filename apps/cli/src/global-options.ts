/** The options that every command has. */
export interface GlobalOptions {
  readonly context?: string;
  readonly namespace?: string;
  readonly endpoint?: string;
}
