/**
 * What the commands share that need no agent: they look at the host and the data root of the configuration themselves, because
 * an agent that will not start is what they are for.
 */
import { silentLogger, type Logger } from "@berth/base";
import { loadAgentConfig, type AgentConfig } from "@berth/config";
import type { GlobalOptions } from "./options.ts";
import type { Session } from "./session.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface LocalContext {
  readonly config: AgentConfig;
  readonly path: string;
  readonly logger: Logger;
}

/** @throws INVALID_ARGUMENT `CONFIG_INVALID`: the same configuration as the agent's is needed, `--config` or environment. */
export async function localContext({ env }: Session, { config: file }: GlobalOptions): Promise<LocalContext> {
  const config = await loadAgentConfig({ file, env });
  return { config, path: env["PATH"] ?? DEFAULT_PATH, logger: silentLogger };
}
