/** Webhooks that do not get on: receivers that have failed for a while, or that said they want no more. */
import type { Finding } from "@berth/proto";
import type { WebhookRow } from "@berth/store";
import { counted, finding, sinceOf } from "./finding.ts";

/** A receiver that is restarted is no news. */
const FAILING_MS = 60_000;

export function webhookFindings({
  webhooks,
  now,
}: {
  readonly webhooks: readonly WebhookRow[];
  readonly now: Date;
}): Finding[] {
  return webhooks.filter((row) => row.goneAt !== null || failsForLong(row, now)).map(findingOf);
}

const failsForLong = ({ failingSince }: WebhookRow, now: Date): boolean =>
  failingSince !== null && now.getTime() - failingSince.getTime() >= FAILING_MS;

function findingOf({ namespace, name, goneAt, failingSince, failures, lastError, givenUp }: WebhookRow): Finding {
  const lost = givenUp === 0 ? "" : `; ${counted(givenUp, "event")} given up so far`;
  const [reason, message, hint, since] =
    goneAt === null
      ? [
          "WebhookFailing",
          `${counted(failures, "request")} failed in a row: ${lastError}${lost}`,
          "deliveries",
          failingSince,
        ]
      : ["WebhookGone", "its receiver answered 410: nothing is sent any more", "resume", goneAt];
  return finding({
    area: "stuck",
    reason,
    subject: `webhook/${namespace}/${name}`,
    message,
    count: failures,
    hint: `berth -n ${namespace} webhook ${hint} ${name}`,
    ...sinceOf(since),
  });
}
