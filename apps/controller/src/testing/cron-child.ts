/** A controller's cron loop in a process of its own, to be killed: `cron-child.ts URL FAILPOINT` ends itself at that passage. */
import { crashAt, silentLogger } from "@berth/base";
import { openStore } from "@berth/store";
import { startCron } from "../cron/cron.ts";

const [url = "", failpoint = ""] = process.argv.slice(2);
const store = await openStore({ url, migrate: false });
startCron({ store, logger: silentLogger, failpoint: crashAt(failpoint) }, { tickMs: 20 });
