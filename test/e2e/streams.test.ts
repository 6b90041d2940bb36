/**
 * What goes into a running task and comes out of it, end to end: attach, copies, forwarded connections, commands that break off.
 * Against a real agent, with the real `berth` where a user would use it.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { seededRandom } from "@berth/base";
import { TaskService, type AttachRequest } from "@berth/proto";
import { createGrpcClient } from "@berth/rpc";
import { buildImage, eventually, pushImage, startFleet, type Fleet } from "@berth/testkit";
import { pushHello, tasksOf } from "../support/fleet.ts";

void describe("streams of a running task", { timeout: 300_000 }, () => {
  let fleet: Fleet;
  let image: string;
  let dir: string;

  before(async () => {
    fleet = await startFleet({ nodes: 1 });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
    dir = join(fleet.dir, "local");
    mkdirSync(dir);
    await start("box", ["sleep", "100000"]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  /** A workload of one task that runs; gives the task's name. */
  async function start(name: string, args: readonly string[], container: object = {}): Promise<string> {
    const manifest = {
      apiVersion: "berth/v1",
      kind: "Workload",
      metadata: { name, namespace: "demo" },
      spec: { container: { image, args, stop: { grace: "1s" }, ...container }, restart: { policy: "never" } },
    };
    await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], JSON.stringify(manifest));
    return (await tasksOf(fleet, name))[0]!.metadata.name;
  }
  const berth = (args: readonly string[], input?: string): Promise<string> =>
    fleet.berth(["-n", "demo", ...args], input);
  const sh = (script: string, task = "box"): Promise<string> => berth(["exec", task, "--", "sh", "-c", script]);
  /** A command that goes on; the test ends it. */
  const background = (...args: string[]): ChildProcessWithoutNullStreams => fleet.startBerth("-n", "demo", ...args);

  void test("attach carries input and output, and ends with the task's exit code", async () => {
    await start("ask", ["sh", "-c", "read name; echo hello $name; echo oops >&2; exit 3"], { stdin: true });
    const result = background("attach", "-i", "ask");
    result.stdin.write("world\n");
    const [stdout, stderr, [code]] = await Promise.all([
      buffer(result.stdout),
      buffer(result.stderr),
      once(result, "exit") as Promise<[number]>,
    ]);
    assert.deepEqual([stdout.toString(), stderr.toString(), code], ["hello world\n", "oops\n", 3]);
  });

  void test("attach closes an input of stdinOnce with its own, and refuses where there is none", async () => {
    await start("sum", ["sh", "-c", "wc -c; echo done"], { stdin: true, stdinOnce: true });
    assert.equal(await berth(["attach", "-i", "sum"], "x".repeat(100_000)), "100000\ndone\n");
    const refused = await fleet.cli("-n", "demo", "attach", "-i", "box");
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /has no standard input: give its workload spec\.container\.stdin/);
  });

  void test("attach of a reader that stalls never slows the task, and holds no memory of it", async () => {
    const flood = `read go; yes ${"x".repeat(99)} | head -c 20000000; echo end`;
    const name = await start("flood", ["sh", "-c", flood], { stdin: true });
    using client = createGrpcClient(TaskService, {
      endpoint: new URL(fleet.controller.grpcEndpoint).host,
      token: fleet.token(),
    });
    const typed = Promise.withResolvers<void>();
    async function* requests(): AsyncGenerator<{ message: AttachRequest["message"] }> {
      const open = { $typeName: "berth.v1.AttachOpen", namespace: "demo", name, stdin: true } as const;
      yield { message: { case: "open", value: open } };
      await typed.promise;
      yield { message: { case: "stdin", value: Buffer.from("go\n") } };
      await new Promise<void>(() => {});
    }
    const stalled = client.attach(requests())[Symbol.asyncIterator]();
    assert.equal((await stalled.next()).value?.message.case, "started");
    typed.resolve();
    // Not read any further: the task must come to its end all the same.
    await eventually("the task has ended", async () => {
      const [task] = await tasksOf(fleet, "flood");
      return task!.status.phase === "Succeeded";
    });
    let bytes = 0;
    for (let next = await stalled.next(); next.done !== true; next = await stalled.next()) {
      if (next.value.message.case === "stdout") bytes += next.value.message.value.length;
      if (next.value.message.case === "exitCode") assert.equal(next.value.message.value, 0);
    }
    assert.equal(bytes, 20_000_004, "who reads late gets all of it, from the log");
  });

  void test("cp carries a tree in and out again as it was: names, modes, owners, times, links", async () => {
    const tree = join(dir, "tree");
    mkdirSync(join(tree, "deep/er"), { recursive: true });
    const random = seededRandom(7);
    const content = Buffer.from(Array.from({ length: 300_000 }, () => Math.floor(random() * 256)));
    writeFileSync(join(tree, "deep/er/data.bin"), content, { mode: 0o640 });
    writeFileSync(join(tree, "empty"), "");
    writeFileSync(join(tree, `long-${"n".repeat(150)} ü`), "long name");
    symlinkSync("/etc/passwd", join(tree, "link"));
    utimesSync(join(tree, "empty"), 1_000_000_000.25, 1_000_000_000.25);
    utimesSync(join(tree, "deep"), 1_100_000_000, 1_100_000_000);
    await berth(["cp", tree, "box:/tmp"]);
    assert.equal(await sh("stat -c '%a %u %Y' /tmp/tree/deep/er/data.bin | cut -d' ' -f1,2"), "640 0\n");
    assert.equal(await sh("stat -c '%Y' /tmp/tree/empty /tmp/tree/deep"), "1000000000\n1100000000\n");
    assert.equal(await sh("readlink /tmp/tree/link"), "/etc/passwd\n");
    await sh("ln /tmp/tree/empty /tmp/tree/second && chown 1000:50 /tmp/tree/empty");
    await berth(["cp", "box:/tmp/tree", join(dir, "back")]);
    const back = join(dir, "back");
    assert.ok(readFileSync(join(back, "deep/er/data.bin")).equals(content));
    assert.equal(readFileSync(join(back, `long-${"n".repeat(150)} ü`), "utf8"), "long name");
    assert.equal(readlinkSync(join(back, "link")), "/etc/passwd");
    const [empty, second] = [statSync(join(back, "empty")), statSync(join(back, "second"))];
    assert.deepEqual([empty.uid, empty.gid, empty.ino, empty.mtimeMs], [1000, 50, second.ino, 1_000_000_000_250]);
    assert.equal(statSync(join(back, "deep")).mtimeMs, 1_100_000_000_000);
  });

  void test("cp puts a file under a name, into a folder, over a file, and prints one", async () => {
    const file = join(dir, "note.txt");
    writeFileSync(file, "first\n");
    await berth(["cp", file, "box:/tmp/renamed"]);
    writeFileSync(file, "second\n");
    await berth(["cp", file, "box:/tmp/renamed"]);
    await berth(["cp", file, "box:/tmp/"]);
    assert.equal(await sh("cat /tmp/renamed /tmp/note.txt"), "second\nsecond\n");
    assert.equal(await berth(["cp", "box:/tmp/renamed", "-"]), "second\n");
    assert.equal(await berth(["cp", "workload/box:/etc/passwd", "-"]), await sh("cat /etc/passwd"));
  });

  void test("cp says what is wrong, and where", async () => {
    const file = join(dir, "note.txt");
    writeFileSync(file, "x");
    const fails = async (pattern: RegExp, code: number, ...args: string[]): Promise<void> => {
      const result = await fleet.cli("-n", "demo", "cp", ...args);
      assert.match(result.stderr, pattern);
      assert.equal(result.code, code, result.stderr);
    };
    await fails(/\/no\/such is not there/, 3, "box:/no/such", "-");
    await fails(/folder \/no is not there; make it first/, 3, file, "box:/no/file");
    await fails(/folder \/tmp\/none\/ is not there/, 3, file, "box:/tmp/none/");
    await fails(/has a ".." part/, 2, file, "box:/tmp/../tmp");
    await sh("mkdir -p /tmp/taken/note.txt");
    await fails(/there is a folder of this name already/, 4, file, "box:/tmp/taken");
    await fails(/not there/, 3, join(dir, "missing"), "box:/tmp");
    await fails(/one side is a task's/, 2, file, join(dir, "other"));
    await fails(/begins with \//, 2, file, "box:tmp");
  });

  void test("cp never leaves the container's root, whatever its links say", async () => {
    const file = join(dir, "mark");
    writeFileSync(file, "inside");
    const outside = join(dir, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "secret"), "of the host");
    // Absolute and climbing links to a path that is the host's; in the container they mean the container.
    const climb = `${"../".repeat(40)}${outside.slice(1)}`;
    await sh(`ln -s ${outside} /tmp/absolute; ln -s ${climb} /tmp/climbing; ln -s /proc/1/root/etc /tmp/magic`);
    for (const link of ["absolute", "climbing"]) {
      const stolen = await fleet.cli("-n", "demo", "cp", `box:/tmp/${link}/secret`, "-");
      assert.notEqual(stolen.code, 0);
      assert.doesNotMatch(stolen.stdout, /of the host/);
      const written = await fleet.cli("-n", "demo", "cp", file, `box:/tmp/${link}/planted`);
      assert.notEqual(written.code, 0);
    }
    assert.throws(() => lstatSync(join(outside, "planted")), { code: "ENOENT" });
    assert.notEqual((await fleet.cli("-n", "demo", "cp", "box:/tmp/magic/passwd", "-")).code, 0);
    // The same path made in the container: the copy goes there and nowhere else.
    await sh(`mkdir -p ${outside}`);
    await berth(["cp", file, "box:/tmp/absolute/planted"]);
    assert.equal(await sh(`cat ${outside}/planted`), "inside");
    assert.throws(() => lstatSync(join(outside, "planted")), { code: "ENOENT" });
  });

  void test("cp works on an image without a shell, or anything else", async () => {
    const bare = buildImage({
      layers: [{ entries: [{ path: "busybox", mode: 0o755, content: readFileSync("/bin/busybox") }] }],
      config: { Entrypoint: ["/busybox", "sleep"] },
    });
    const { name } = await pushImage(fleet.registry, "demo/bare", "v1", bare);
    await start("bare", ["100000"], { image: name });
    const file = join(dir, "config.ini");
    writeFileSync(file, "answer=42\n", { mode: 0o600 });
    await berth(["cp", file, "bare:/config.ini"]);
    assert.equal(await berth(["cp", "bare:/config.ini", "-"]), "answer=42\n");
  });

  void test("port-forward carries many connections at once, each half closed on its own", async () => {
    const [task] = await tasksOf(fleet, "box");
    const { state, host } = fleet.agents[0]!;
    const netns = join(state, "network/netns/demo", task!.metadata.uid);
    const [enter, ...words] = [...host.enter, "nsenter", `--net=${netns}`, process.execPath, "-e", SERVERS];
    const server = spawn(enter, words, { stdio: ["pipe", "pipe", "inherit"] });
    await once(server.stdout, "data");
    const forward = background("port-forward", "box", ":7000", "0:7001", ":7002", ":7003", ":7999");
    let printed = "";
    let notes = "";
    forward.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString()));
    forward.stderr.on("data", (chunk: Buffer) => (notes += chunk.toString()));
    const ports = await eventually("the ports", () => {
      const found = [...printed.matchAll(/^127\.0\.0\.1:(\d+) -> box-\w+:(\d+)$/gm)];
      return found.length === 5 && new Map(found.map(([, local, remote]) => [Number(remote), Number(local)]));
    });
    const exchange = async (port: number, sent: Buffer): Promise<Buffer> => {
      const socket = connect({ port: ports.get(port)!, host: "127.0.0.1", allowHalfOpen: true });
      socket.end(sent);
      return await buffer(socket);
    };
    const payloads = Array.from({ length: 30 }, (_, index) => Buffer.alloc(50_000 + index, `${index}.`));
    const echoed = await Promise.all(payloads.map((payload) => exchange(7000, payload)));
    payloads.forEach((payload, index) => assert.ok(payload.equals(echoed[index]!), `connection ${index}`));
    // Answers only after the end of the input: the half that is closed must not close the other.
    assert.equal((await exchange(7001, Buffer.alloc(1_000_000))).toString(), "1000000\nbye\n");
    assert.equal((await exchange(7002, Buffer.from("x"))).toString(), "by IPv6", "what listens on ::1 alone");
    const reset = connect({ port: ports.get(7003)!, host: "127.0.0.1" });
    reset.write("x");
    await assert.rejects(untilClosed(reset), { code: "ECONNRESET" }, "a reset is no end");
    const refused = connect({ port: ports.get(7999)!, host: "127.0.0.1" });
    await assert.rejects(untilClosed(refused), { code: "ECONNRESET" });
    await eventually("the reason", () => /nothing listens on port 7999 of task box-/.test(notes));
    forward.kill("SIGINT");
    assert.deepEqual(await once(forward, "exit"), [130, null]);
    server.kill();
  });

  void test("logs -f of a workload goes on with tasks that come later", async () => {
    await start("crew", ["sh", "-c", "echo here is $(hostname); sleep 100000"]);
    const following = background("logs", "-f", "crew");
    const ended = once(following, "exit");
    let text = "";
    following.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    const lines = (): number => text.split("\n").filter((line) => line.includes("here is")).length;
    await eventually("the first", () => lines() === 1);
    await berth(["scale", "crew", "3"]);
    await eventually("those that came later", () => lines() === 3);
    await berth(["delete", "workload", "crew", "--wait"]);
    assert.deepEqual(await ended, [0, null]);
  });

  void test("exec ends with a clear error when its agent dies, and the node's lease is held again after", async () => {
    const running = background("exec", "box", "--", "sh", "-c", "echo begun; sleep 100000");
    const stderr = buffer(running.stderr);
    await once(running.stdout, "data");
    await fleet.agents[0]!.kill();
    const [code] = (await once(running, "exit")) as [number];
    assert.equal(code, 6);
    assert.match((await stderr).toString(), /node|other end/);
    await fleet.agents[0]!.start();
    await eventually(
      "the task can be entered again",
      async () => (await fleet.cli("-n", "demo", "exec", "box", "true")).code === 0,
    );
  });
});

/** In the task's network: an echo, one that answers at the end of its input, one of IPv6 alone, one that resets. */
const SERVERS = `
const { createServer } = require("node:net");
const serve = (port, host, handler) => new Promise((up) => createServer({ allowHalfOpen: true }, handler).listen(port, host, up));
Promise.all([
  serve(7000, "127.0.0.1", (socket) => socket.pipe(socket)),
  serve(7001, "127.0.0.1", (socket) => {
    let bytes = 0;
    socket.on("data", (data) => (bytes += data.length)).on("end", () => socket.end(bytes + "\\nbye\\n"));
  }),
  serve(7002, "::1", (socket) => socket.resume().end("by IPv6")),
  serve(7003, "127.0.0.1", (socket) => socket.on("data", () => socket.resetAndDestroy())),
]).then(() => console.log("up"));
`;

async function untilClosed(socket: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket
    .on("error", reject)
    .on("close", () => resolve())
    .resume();
  await promise;
}
