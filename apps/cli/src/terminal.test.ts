/** What `berth` does with a terminal: interactive exec and progress bars, on a pseudo-terminal, against a scripted server. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { after, before, test } from "node:test";
import { ReadStream } from "node:tty";
import { stripVTControlCharacters } from "node:util";
import { create } from "@bufbuild/protobuf";
import { Lifetime, StatusError } from "@berth/base";
import { openPty, setWindowSize } from "@berth/linux";
import {
  CampaignSchema,
  CampaignService,
  ExecResponseSchema,
  ListNodesResponseSchema,
  NodeService,
  TaskSchema,
  TaskService,
  WatchProgressResponseSchema,
  type AttachRequest,
  type ExecRequest,
  type ExecResponse,
  type WatchProgressResponse,
} from "@berth/proto";
import { implement } from "@berth/rpc";
import { Invoker, serveGrpc } from "@berth/rpc/server";
import { eventually } from "@berth/testkit/servers";
import { BIN, cleanEnv } from "./testing/berth.ts";

const lifetime = new Lifetime();
let endpoint = "";

const refuse = (): never => {
  throw new StatusError("UNIMPLEMENTED", "not part of this test");
};
const missing = (): Promise<never> => Promise.reject(new StatusError("NOT_FOUND", "not there"));

/** Tells the sizes it hears of, echoes what is typed, ends with 5 at `q`. */
async function* shell(requests: AsyncIterable<ExecRequest | AttachRequest>): AsyncGenerator<ExecResponse> {
  const say = (text: string): ExecResponse =>
    create(ExecResponseSchema, { message: { case: "stdout", value: Buffer.from(text) } });
  for await (const { message } of requests) {
    if (message.case === "open") yield say(`open ${message.value.size?.columns}x${message.value.size?.rows}\r\n`);
    if (message.case === "resize") yield say(`resized ${message.value.columns}x${message.value.rows}\r\n`);
    if (message.case === "stdin") {
      const typed = Buffer.from(message.value).toString();
      yield say(`typed ${JSON.stringify(typed)}\r\n`);
      if (typed.includes("q")) return yield create(ExecResponseSchema, { message: { case: "exitCode", value: 5 } });
    }
  }
}

const halfway = Promise.withResolvers<void>();

async function* pulling(): AsyncGenerator<WatchProgressResponse> {
  const step = (phase: string, offset: number): WatchProgressResponse => {
    const progress = { phase: "downloading", offsetBytes: BigInt(offset) << 20n, totalBytes: 4n << 20n };
    const target = { node: "node-1", image: "registry.test/demo/app:v1", phase, progress };
    const status = { phase: phase === "Succeeded" ? phase : "Running", targets: 1, succeeded: 1 };
    return create(WatchProgressResponseSchema, { status, targets: [target] });
  };
  yield step("Pulling", 1);
  await halfway.promise;
  yield step("Succeeded", 4);
}

before(async () => {
  const tasks = implement(TaskService, {
    getTask: async ({ name }) => create(TaskSchema, { metadata: { name }, status: { phase: "Running" } }),
    listTasks: refuse,
    watchTasks: refuse,
    restartTask: refuse,
    logs: refuse,
    exec: shell,
    attach: shell,
    portForward: refuse,
    copyOut: refuse,
    copyIn: refuse,
  });
  const campaigns = implement(CampaignService, {
    applyCampaign: async ({ campaign }) => campaign ?? create(CampaignSchema),
    getCampaign: missing,
    listCampaigns: refuse,
    deleteCampaign: refuse,
    watchCampaigns: refuse,
    listTargets: refuse,
    watchProgress: pulling,
  });
  const nodes = implement(NodeService, {
    applyNode: refuse,
    getNode: refuse,
    listNodes: async () => create(ListNodesResponseSchema, { items: [{ metadata: { name: "node-1" } }] }),
    watchNodes: refuse,
    deleteNode: refuse,
  });
  const invoker = new Invoker([tasks, campaigns, nodes], []);
  const server = lifetime.own(await serveGrpc({ invoker }, { host: "127.0.0.1", port: 0, graceMs: 500 }));
  endpoint = `http://127.0.0.1:${server.port}`;
});
after(() => lifetime[Symbol.asyncDispose]());

interface Terminal {
  readonly fd: number;
  type(text: string): void;
  /** All that was drawn, until it matches. */
  shows(pattern: RegExp): Promise<string>;
  readonly ended: Promise<unknown>;
}

function onTerminal(args: readonly string[], env: Record<string, string> = {}): Terminal {
  const { masterFd, slaveFd } = openPty({ columns: 100, rows: 30 });
  const child = spawn("setsid", ["--ctty", "--wait", `${BIN}/berth`, ...args], {
    stdio: [slaveFd, slaveFd, slaveFd],
    env: cleanEnv({ TERM: "xterm", BERTH_ENDPOINT: endpoint, BERTH_TOKEN: "brt_x", ...env }),
  });
  lifetime.defer(() => void child.kill("SIGKILL"));
  closeSync(slaveFd);
  const master = new ReadStream(masterFd);
  let text = "";
  master.on("data", (chunk: Buffer) => (text += chunk.toString()));
  master.on("error", () => master.destroy());
  return {
    fd: masterFd,
    type: (typed) => void master.write(typed),
    shows: (pattern) =>
      eventually(`${pattern} on the terminal`, () => {
        assert.match(text, pattern);
        return text;
      }),
    ended: once(child, "exit").then(([code]: unknown[]) => code),
  };
}

void test("berth exec -it passes keys and sizes on, and ends with the command's code", async () => {
  const terminal = onTerminal(["exec", "-it", "web", "--", "sh"]);
  await terminal.shows(/open 100x30\s/);
  setWindowSize(terminal.fd, { columns: 70, rows: 20 });
  await terminal.shows(/resized 70x20\s/);
  terminal.type("\u0003");
  const drawn = await terminal.shows(/typed "\\u0003"/);
  assert.doesNotMatch(drawn, /\^C/, "the terminal is raw: nothing echoes, and Ctrl-C goes to the command");
  terminal.type("q");
  assert.equal(await terminal.ended, 5);
});

void test("berth attach -it passes keys on but for those that detach, and gives the terminal back", async () => {
  const terminal = onTerminal(["attach", "-it", "web"]);
  await terminal.shows(/open 100x30\s/);
  terminal.type("\u0010x");
  await terminal.shows(/typed "\\u0010x"/);
  terminal.type("\u0010");
  terminal.type("\u0011");
  await terminal.shows(/detached from task web; it goes on/);
  assert.equal(await terminal.ended, 0);
});

void test("berth pull draws bars in place on a terminal, in colour, and plain ones with NO_COLOR", async () => {
  const args = ["pull", "registry.test/demo/app:v1", "--name", "warm"];
  const [coloured, plain] = [onTerminal(args), onTerminal(args, { NO_COLOR: "1" })];
  await Promise.all([coloured.shows(/25%/), plain.shows(/25%/)]);
  halfway.resolve();
  assert.deepEqual(await Promise.all([coloured.ended, plain.ended]), [0, 0]);
  const drawn = await coloured.shows(/succeeded.*1 of 1 done/s);
  const [blue, black, overwrite] = ["\u001b[34m", "\u001b[39m", "\u001b[1A\u001b[2K"];
  assert.ok(drawn.includes(`node-1  demo/app:v1  ${blue}${"█".repeat(6)}${"░".repeat(18)}${black}  25%  downloading`));
  assert.match(drawn.slice(drawn.indexOf(overwrite)), /█{24}.*100%/);
  const uncoloured = await plain.shows(/1 of 1 done/);
  assert.ok(!uncoloured.includes("\u001b[3"));
  assert.match(stripVTControlCharacters(uncoloured), /█{6}░{18} +25%/);
});
