/** A stand-in for the agent that a test kills: creates and starts a container, says so, and stays. Arguments: state, request. */
import { createOciRuntime } from "../oci/runtime.ts";
import type { CreateRequest } from "../runtime.ts";

const [stateDir = "", request = ""] = process.argv.slice(2);
const container = JSON.parse(request) as CreateRequest;
const runtime = await createOciRuntime(
  {},
  { name: "runc", binary: "/usr/sbin/runc", conmonPath: "/usr/bin/conmon", stateDir },
);
await runtime.create(container);
await runtime.start(container);
process.stdout.write("started\n");
await runtime.wait(container);
await new Promise(() => setInterval(() => {}, 1000));
