/** `berth webhook`: try one, see what it sent, change its secret, let it go on. What it is for is in its manifest. */
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { formatTable } from "@berth/base/terminal";
import { WebhookDeliverySchema, WebhookService } from "@berth/proto";
import { ExitWith } from "../exit-code.ts";
import { deliveryColumns } from "../output/columns.ts";
import { formatDocuments, parseOutput, toManifest } from "../output/format.ts";
import { formatTime, parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";

export async function test(session: Session, name: string): Promise<void> {
  const { delivery, body } = await session.client(WebhookService).testWebhook({ namespace: session.namespace(), name });
  const { outcome = "", code = 0, message = "", id = "", took } = delivery ?? {};
  const answer = code === 0 ? message : `answered ${code} in ${took === undefined ? 0 : durationMs(took)} ms`;
  session.out(`webhook/${name} ${outcome === "Delivered" ? session.paint.green("took the ping") : "did not take it"}: ${answer}`); // prettier-ignore
  session.out(`  webhook-id  ${id}`);
  if (body !== "") session.out(body.trimEnd().split("\n").map((line) => `  | ${line}`).join("\n")); // prettier-ignore
  if (outcome === "Delivered") return;
  throw new ExitWith(1);
}

export async function deliveries(session: Session, name: string, options: { readonly output: string }): Promise<void> {
  const output = parseOutput(options.output);
  const client = session.client(WebhookService);
  const { items } = await client.listWebhookDeliveries({ namespace: session.namespace(), name });
  if (output === "json" || output === "yaml") {
    const shown = items.map((item) => toManifest("WebhookDelivery", WebhookDeliverySchema, item));
    session.out(await formatDocuments(output, shown, false));
  } else if (items.length === 0) session.note("nothing was sent yet");
  else session.out(formatTable(deliveryColumns, items, { wide: output === "wide" }));
}

export async function rotateSecret(session: Session, name: string, options: { readonly grace: string }): Promise<void> {
  const grace = durationFromMs(parseDurationMs(options.grace, "--grace"));
  const client = session.client(WebhookService);
  const { secret, previousUntil } = await client.rotateWebhookSecret({ namespace: session.namespace(), name, grace });
  const before = previousUntil === undefined ? "no longer signs" : `signs, too, until ${formatTime(previousUntil)}`;
  session.note(`the new secret of webhook "${name}", told only now; the one before ${before}`);
  session.out(secret);
}

export async function resume(session: Session, name: string): Promise<void> {
  await session.client(WebhookService).resumeWebhook({ namespace: session.namespace(), name });
  session.out(`webhook/${name} ${session.paint.green("is tried again")}`);
}
