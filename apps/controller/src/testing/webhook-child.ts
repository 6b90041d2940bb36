/** A controller's webhooks in a process of their own, to be killed: `webhook-child.ts URL FAILPOINT NTH` ends itself at that passage. */
import { crashAt, silentLogger } from "@berth/base";
import { openStore } from "@berth/store";
import { makeAddressGuard } from "../webhooks/address-guard.ts";
import { makeSender } from "../webhooks/send.ts";
import { noMetrics } from "./no-metrics.ts";
import { startWebhooks } from "../webhooks/webhooks.ts";

const [url = "", failpoint = "", nth = "1"] = process.argv.slice(2);
const store = await openStore({ url, migrate: false });
const sender = makeSender({ guard: makeAddressGuard({ allowPrivate: true, allowCidrs: [] }), version: "1" });
await startWebhooks({
  store,
  logger: silentLogger,
  failpoint: crashAt(failpoint, Number(nth)),
  sender,
  metrics: noMetrics.webhooks,
});
