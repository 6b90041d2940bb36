/** `berth schema`: the JSON Schema of manifests, for editors and linters. */
import type { Session } from "../session.ts";

export async function schema(session: Session): Promise<void> {
  const { manifestSchema } = await import("@berth/rpc");
  session.out(JSON.stringify(manifestSchema(), null, 2));
}
