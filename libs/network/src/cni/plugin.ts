/**
 * One call of a CNI 1.0 plugin: environment, configuration on stdin, result or error on stdout (CNI spec §4).
 *
 * Plugins run in the agent's own network namespace, whichever that is: a bridge appears where the agent is.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { StatusError } from "@berth/base";

export const CNI_VERSION = "1.0.0";

export type CniCommand = "ADD" | "CHECK" | "DEL";

/** A plugin's configuration; every plugin adds keys of its own. */
export interface PluginConfig {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** What ADD gave (CNI 1.0 result), as far as it is read here; the rest is kept for DEL. */
export interface CniResult {
  readonly cniVersion: string;
  readonly ips?: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
  readonly [key: string]: unknown;
}

export interface PluginCall {
  readonly command: CniCommand;
  readonly binDir: string;
  /** The network's name; plugins keep state under it. */
  readonly network: string;
  readonly containerId: string;
  readonly netnsPath: string;
  readonly ifName: string;
  readonly plugin: PluginConfig;
  readonly prevResult: CniResult | undefined;
  readonly timeoutMs: number;
}

/**
 * @returns the result of ADD; undefined for CHECK and DEL.
 * @throws FAILED_PRECONDITION `CNI_FAILED` with the plugin's own message, `CNI_PLUGIN_MISSING`; UNAVAILABLE `CNI_FAILED` when
 * the plugin asks to be called again; DEADLINE_EXCEEDED `CNI_TIMEOUT`.
 */
export async function callPlugin(call: PluginCall): Promise<CniResult | undefined> {
  const { code, stdout, stderr } = await run(call);
  if (code !== 0) throw pluginFailed(call, stdout, stderr, code);
  if (call.command !== "ADD") return undefined;
  try {
    return JSON.parse(stdout) as CniResult;
  } catch (error) {
    throw failure(call, `its result is not JSON: ${stdout.slice(0, 200)}`, { cause: error });
  }
}

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const MAX_OUTPUT_CHARS = 1024 * 1024;

async function run(call: PluginCall): Promise<Outcome> {
  const child = spawn(join(call.binDir, call.plugin.type), [], { env: environment(call), stdio: "pipe" });
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      if (output[name].length < MAX_OUTPUT_CHARS) output[name] += text;
    });
  }
  const timer = setTimeout(() => {
    child.kill("SIGKILL");
    reject(
      new StatusError("DEADLINE_EXCEEDED", `${subject(call)}: no answer within ${call.timeoutMs} ms`, {
        reason: "CNI_TIMEOUT",
      }),
    );
  }, call.timeoutMs);
  child.once("error", (error) => reject(pluginMissing(call, error)));
  child.once("close", (code, signal) =>
    resolve({ code: code ?? -1, ...output, ...(signal ? { stderr: signal } : {}) }),
  );
  child.stdin.on("error", () => {}); // a plugin that ends without reading says why on stdout
  child.stdin.end(JSON.stringify(config(call)));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function environment(call: PluginCall): Record<string, string> {
  return {
    // Plugins look for iptables.
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    CNI_COMMAND: call.command,
    CNI_CONTAINERID: call.containerId,
    CNI_NETNS: call.netnsPath,
    CNI_IFNAME: call.ifName,
    CNI_PATH: call.binDir,
  };
}

function config(call: PluginCall): Record<string, unknown> {
  const { plugin, network, prevResult } = call;
  return { ...plugin, cniVersion: CNI_VERSION, name: network, ...(prevResult === undefined ? {} : { prevResult }) };
}

/** CNI spec §5: what a plugin says on stdout when it fails. */
interface CniError {
  readonly code?: number;
  readonly msg?: string;
  readonly details?: string;
}

const TRY_AGAIN_LATER = 11;

function pluginFailed(call: PluginCall, stdout: string, stderr: string, exitCode: number): StatusError {
  const said = parseError(stdout);
  if (said?.msg === undefined) {
    return failure(call, stderr.trim() || stdout.trim() || `exit code ${exitCode}`);
  }
  const text = said.details === undefined || said.details === "" ? said.msg : `${said.msg}; ${said.details}`;
  return failure(call, text, said.code === undefined ? {} : { cniCode: said.code });
}

function failure(call: PluginCall, text: string, more: { cniCode?: number; cause?: unknown } = {}): StatusError {
  const code = more.cniCode === TRY_AGAIN_LATER ? "UNAVAILABLE" : "FAILED_PRECONDITION";
  const cniCode = more.cniCode === undefined ? {} : { cniCode: more.cniCode };
  return new StatusError(code, `${subject(call)}: ${text}`, {
    reason: "CNI_FAILED",
    details: { plugin: call.plugin.type, command: call.command, ...cniCode },
    cause: more.cause,
  });
}

function pluginMissing(call: PluginCall, cause: unknown): StatusError {
  const text = `${subject(call)}: ${join(call.binDir, call.plugin.type)} cannot be run; on Debian: apt install containernetworking-plugins`;
  return new StatusError("FAILED_PRECONDITION", text, { reason: "CNI_PLUGIN_MISSING", cause });
}

function subject(call: PluginCall): string {
  return `network "${call.network}": plugin ${call.plugin.type} ${call.command}`;
}

function parseError(stdout: string): CniError | undefined {
  try {
    const said: unknown = JSON.parse(stdout);
    return typeof said === "object" && said !== null ? said : undefined;
  } catch {
    return undefined;
  }
}
