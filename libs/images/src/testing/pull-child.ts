/** A process to be killed while it pulls: `node pull-child.ts ROOT HOST IMAGE`. */
import { startTestHost } from "./host.ts";

if (import.meta.main) {
  const [root, registry, image] = process.argv.slice(2) as [string, string, string];
  await using host = await startTestHost({ hosts: [{ host: registry, plainHttp: true }], root });
  await host.images.pull({ namespace: "shop", image, snapshotter: "overlayfs" });
}
