/** A placer in a process of its own, to be killed: `placer-child.ts URL FAILPOINT NTH` ends itself at that passage. */
import { crashAt, silentLogger } from "@berth/base";
import { openStore } from "@berth/store";
import { Placer } from "../placement/placement.ts";
import { noMetrics } from "./no-metrics.ts";

const [url = "", failpoint = "", nth = "1"] = process.argv.slice(2);
await using store = await openStore({ url, migrate: false });
const deps = { store, logger: silentLogger, metrics: noMetrics.placement, failpoint: crashAt(failpoint, Number(nth)) };
const placer = new Placer(deps, { batchSize: 5 });
while (!(await placer.pass())) await new Promise((resolve) => setTimeout(resolve, 5));
